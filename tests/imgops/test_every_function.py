"""Every public function on every kind of image and at the edges: sizes of nothing and one, NaN, modes, batches."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from PIL import Image

from cvkit import imgops

REFERENCE = np.random.default_rng(7).integers(30, 220, (9, 11, 3)).astype(np.uint8)


def channels_of(image):
    if isinstance(image, Image.Image):
        return len(image.getbands())
    shape = tuple(image.shape)
    return 1 if len(shape) == 2 else shape[-1] if isinstance(image, np.ndarray) else shape[-3]


def reference_for(image):
    return REFERENCE if channels_of(image) in {3, 4} else REFERENCE[..., 0]


def size_of(image):
    if isinstance(image, Image.Image):
        return image.size[::-1]
    return tuple(image.shape[:2]) if isinstance(image, np.ndarray) else tuple(image.shape[-2:])


def everywhere(image):
    return np.ones(size_of(image), bool)


def middle_of(image, **options):
    """A place and a value in the image's own range."""
    if "data_range" in options:
        return sum(options["data_range"]) // 2
    kind = image.mode if isinstance(image, Image.Image) else str(image.dtype).removeprefix("torch.")
    return {"uint8": 100, "uint16": 20000, "I;16": 20000, "bool": 1, "1": 1}.get(
        kind, 0.4 if kind.startswith(("float", "bfloat")) else 100
    )


def masked_pair(image, **options):
    return imgops.blend_by_masks([image, image], [everywhere(image), ~everywhere(image)], **options)


# From an image to an image of its size and channels ...
ALIKE = {
    "autocontrast": imgops.autocontrast,
    "blend_by_masks": masked_pair,
    "clahe": imgops.clahe,
    "composite": lambda a, **o: imgops.composite(a, a, mode="soft-light", opacity=0.5, **o),
    "curve": lambda a, **o: imgops.curve(a, [(0, 0), (middle_of(a, **o), middle_of(a, **o))], **o),
    "dissolve": lambda a, **o: imgops.dissolve(a, a, 0.3, **o),
    "draw_lines": lambda a, **o: imgops.draw_lines(a, [[[0, 0], [9, 9]]], **o),
    "draw_points": lambda a, **o: imgops.draw_points(a, [[0, 0]], **o),
    "draw_text": lambda a, **o: imgops.draw_text(a, "a", (0, 0), **o),
    "equalize": imgops.equalize,
    "gamma": lambda a, **o: imgops.gamma(a, 0.7, **o),
    "gaussian_blur": lambda a, **o: imgops.gaussian_blur(a, 1.0, **o),
    "invert": imgops.invert,
    "levels": lambda a, **o: imgops.levels(a, gamma=1.3, **o),
    "log": imgops.log,
    "match_histograms": lambda a, **o: imgops.match_histograms(a, reference_for(a), **o),
    "poisson_blend": lambda a, **o: imgops.poisson_blend(a, a, everywhere(a), **o),
    "posterize": lambda a, **o: imgops.posterize(a, 3, **o),
    "pyramid_blend": lambda a, **o: imgops.pyramid_blend(a, a, everywhere(a), **o),
    "sigmoid": imgops.sigmoid,
    "solarize": imgops.solarize,
    "specify_histogram": lambda a, **o: imgops.specify_histogram(a, np.array([1, 2, 3, 1]), **o),
    "srgb_to_linear": imgops.srgb_to_linear,
    "linear_to_srgb": imgops.linear_to_srgb,
    "threshold": imgops.threshold,
    "watermark": lambda a, **o: imgops.watermark(a, "a", **o),
}
# ... of one image alone, not of a batch ...
SINGLE = {
    "autocontrast_lut": lambda a, **o: imgops.autocontrast_lut(a, **o)(a, **o),
    "equalize_lut": lambda a, **o: imgops.equalize_lut(a, **o)(a, **o),
    "match_lut": lambda a, **o: imgops.match_lut(a, reference_for(a), **o)(a, **o),
    "contact_sheet": lambda a, **o: imgops.contact_sheet([a], gap=0, **o),
}
# ... of three colours, of floating-point tensors, of one channel ...
COLORED = {
    "transfer_color": lambda a, **o: imgops.transfer_color(a, REFERENCE, **o),
    "lab_to_rgb": lambda a, **o: imgops.lab_to_rgb(imgops.rgb_to_lab(a, **o)),
    "oklab_to_rgb": lambda a, **o: imgops.oklab_to_rgb(imgops.rgb_to_oklab(a, **o)),
}
SOFT = {
    "soft_equalize": imgops.soft_equalize,
    "soft_match": lambda a, **o: imgops.soft_match(a, a, **o),
}
# ... and what gives something else.
OTHER = {
    "apply_colormap": imgops.apply_colormap,
    "draw_histogram": lambda a, **o: imgops.draw_histogram(imgops.histogram(a, **o)),
    "feather": lambda a, **_: imgops.feather(a, 2.0),
    "histogram": lambda a, **o: imgops.histogram(a, **o).counts,
    "joint_histogram": lambda a, **o: imgops.joint_histogram(a, bins=4, **o).counts,
    "laplacian_pyramid": lambda a, **_: imgops.collapse_pyramid(imgops.laplacian_pyramid(a, 2)),
    "luma": imgops.luma,
    "overlay": lambda a, **o: imgops.overlay(a, np.full(size_of(a), 0.5), **o),
    "resize": lambda a, **o: imgops.resize(a, size_of(a), **o),
    "soft_histogram": lambda a, **o: imgops.soft_histogram(a, bins=8, **o),
    "tone_masks": imgops.tone_masks,
}
ALL = {**ALIKE, **SINGLE, **COLORED, **SOFT, **OTHER}
INNER = {"rgb_to_lab", "rgb_to_oklab", "collapse_pyramid"}  # called within others
# Not of images: tables.
TABLES = {"colormap"}
# Where a pixel's neighbours go into it, one NaN spreads.
SPREADING = {"gaussian_blur", "poisson_blend", "pyramid_blend"}

every = pytest.mark.parametrize("name", ALL)
alike = pytest.mark.parametrize("name", {**ALIKE, **SINGLE})


@pytest.fixture(autouse=True)
def _warned_always():
    """Let torch warn every time, not only the first; pytest makes errors of warnings."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


def as_tensor(array):
    return torch.from_numpy(np.moveaxis(array, -1, 0).copy() if array.ndim == 3 else array.copy())


def as_array(result):
    if isinstance(result, torch.Tensor):
        array = result.detach().numpy()
        return np.moveaxis(array, -3, -1) if array.ndim >= 3 else array
    return np.asarray(result)


def fits(name, image):
    """Whether the function is one for such images."""
    if name in COLORED:
        return channels_of(image) == 3 or (channels_of(image) == 4 and name == "transfer_color")
    if name in {*SOFT, "soft_histogram"}:
        return isinstance(image, torch.Tensor) and image.dtype.is_floating_point
    if name == "laplacian_pyramid":
        return not isinstance(image, Image.Image) and str(image.dtype).removeprefix("torch.").startswith("float")
    return channels_of(image) == 1 if name in {"apply_colormap", "feather"} else True


def test_no_function_is_left_out():
    functions = {name for name in imgops.__all__ if inspect.isfunction(getattr(imgops, name))}
    assert {*ALL, *INNER, *TABLES} == functions


@pytest.mark.fault("scikit-image/scikit-image#5948")
@every
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 1), (0, 4), (4, 0), (0, 0)])
def test_sizes_of_one_and_of_nothing(name, shape):
    for channels in (None, 1, 2, 3, 4):
        for dtype in ("uint8", "uint16", "float16", "float32", "float64", "bool"):
            value = 1 if dtype == "bool" else 0.25 if dtype.startswith("float") else 90
            array = np.full(shape if channels is None else (*shape, channels), value).astype(dtype)
            for image in (array, as_tensor(array)):
                if not fits(name, image):
                    continue
                if name == "laplacian_pyramid" and 0 in image.shape[-2:]:
                    with pytest.raises(ValueError, match="at least one pixel"):
                        ALL[name](image)
                    continue
                if name == "resize" and 0 in shape:
                    with pytest.raises(ValueError, match="at least 1"):
                        ALL[name](image)
                    with pytest.raises(ValueError, match="at least one pixel"):
                        imgops.resize(image, (2, 3))
                    continue
                result = as_array(ALL[name](image))
                assert np.isfinite(result.astype(float)).all()
                if name in ALIKE:
                    assert (result.shape, result.dtype) == (array.shape, array.dtype)
                if 0 in shape and name in {"histogram", "joint_histogram", "soft_histogram"}:
                    assert (result == 0).all()


@every
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_constant_images_give_finite_numbers(name, dtype, value):
    array = np.full((6, 5), value * {"uint8": 255, "uint16": 65535}.get(dtype, 1)).astype(dtype)
    for flat in (array, np.repeat(array[..., None], 3, -1), np.repeat(array[..., None], 4, -1)):
        for image in (flat, as_tensor(flat)):
            if fits(name, image):
                assert np.isfinite(as_array(ALL[name](image)).astype(float)).all()


@every
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_is_kept_where_it_is_and_left_out_of_statistics(name, dtype):
    rng = np.random.default_rng(0)
    for shape in ((8, 9), (8, 9, 3), (8, 9, 4)):
        array = (rng.random(shape) * 0.8 + 0.1).astype(dtype)
        place = (3, 4, 1)[: len(shape)]
        array[place] = np.nan
        for image in (array, as_tensor(array)):
            if not fits(name, image):
                continue
            if name == "overlay":  # which is for pictures of photographs, and says what is wrong with this one
                with pytest.raises(ValueError, match="got NaN"):
                    ALL[name](image)
                continue
            result = as_array(ALL[name](image))
            missing = np.isnan(result.astype(float))
            if name in {*SPREADING, "resize", "laplacian_pyramid", "feather"}:
                assert missing.any()
            elif name in {"histogram", "joint_histogram", "soft_histogram", "draw_histogram", "tone_masks"}:
                assert not missing.any()
            elif result.shape == shape and name not in COLORED:
                assert missing[place]
                assert missing.sum() == 1
            else:
                # Where channels go into each other, the pixel is lost whole.
                assert missing[3, 4].any()
                assert (missing.any(-1) if missing.ndim == 3 else missing).sum() == 1


def test_nan_are_counted():
    image = np.full((4, 5, 3), 0.5)
    image[1, 2] = image[0, 0, 0] = np.nan
    found = imgops.histogram(image)
    assert found.missing.tolist() == [2, 1, 1]
    assert found.total.tolist() == [18, 19, 19]


PLAIN = ["1", "L", "LA", "RGB", "RGBA", "RGBX", "I;16", "I", "F"]


def picture(mode, size=(7, 6)):
    rng = np.random.default_rng(1)
    shape = size[::-1]
    if mode in {"I", "F"}:
        image = Image.fromarray(rng.integers(0, 100, shape).astype(np.int32 if mode == "I" else np.float32))
    elif mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, shape).astype(np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (*shape, 4), dtype=np.uint8))
        image = image.convert("RGB").convert(mode) if mode in {"RGBX", "1"} else image.convert(mode)
    image.info["dpi"] = (72, 72)
    return image


def is_for(name, mode):
    """Whether a function is for pictures of a mode."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    if name in COLORED:
        return mode in {"RGB", "RGBX"} or (mode == "RGBA" and name == "transfer_color")
    if name in {*SOFT, "soft_histogram", "laplacian_pyramid"}:
        return False
    if name in {"apply_colormap", "feather"}:
        return bands == 1 and (name, mode) != ("feather", "I")
    return (name, mode) not in {("resize", "1"), ("overlay", "I;16"), ("overlay", "I"), ("overlay", "F")}


@every
@pytest.mark.parametrize("mode", PLAIN)
def test_pillow_modes_come_back_or_one_error_says_what_to_do(name, mode):
    image = picture(mode)
    before = image.tobytes()
    options = {"data_range": (0, 100)} if mode in {"I", "F"} else {}
    if is_for(name, mode):
        result = ALL[name](image, **options)
        if name in ALIKE:
            assert (result.mode, result.size) == (mode, image.size)
        if isinstance(result, Image.Image):
            assert result.info == image.info
    else:
        with pytest.raises((TypeError, ValueError), match=r"^`.*( must |use `|convert)"):
            ALL[name](image, **options)
    assert image.tobytes() == before


@pytest.mark.parametrize("mode", PLAIN)
@pytest.mark.parametrize("size", [(7, 6), (0, 3), (1, 1)])
def test_modes_with_other_channels(mode, size):
    image = picture(mode).resize(size) if 0 not in size else Image.new(mode, size)
    options = {"data_range": (0, 100)} if mode in {"I", "F"} else {}
    assert imgops.luma(image, **options).mode == {"RGB": "L", "RGBX": "L", "RGBA": "LA"}.get(mode, mode)
    if len(image.getbands()) == 1:
        assert imgops.apply_colormap(image, **options).mode == "RGB"
    heat = np.full(size[::-1], 0.5)
    if mode in {"I;16", "I", "F"}:
        with pytest.raises(TypeError, match=r"no coloured counterpart there; use `numpy.asarray\(image\)`"):
            imgops.overlay(image, heat, **options)
    else:
        laid = imgops.overlay(image, heat, **options)
        assert laid.mode == {"1": "RGB", "L": "RGB", "LA": "RGBA"}.get(mode, mode)
        assert laid.size == size


@pytest.mark.parametrize("mode", ["P", "PA", "CMYK", "RGBa", "La", "YCbCr", "HSV", "LAB"])
@every
def test_modes_without_plain_colours_name_a_conversion(name, mode):
    with pytest.raises(TypeError, match=r"use `|must be a floating-point"):
        ALL[name](Image.new(mode, (7, 6)))


@pytest.mark.parametrize("name", [n for n in ALL if n not in {*SINGLE, "draw_histogram"}])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_batches_are_loops(name, dtype, channels):
    generator = torch.Generator().manual_seed(3)
    batch = torch.rand(3, channels, 6, 7, generator=generator, dtype=torch.float64)
    batch = batch if dtype.is_floating_point else (batch * 255).to(dtype)
    if not fits(name, batch):
        return
    together = ALL[name](batch)
    for n in range(3):
        alone = as_array(ALL[name](batch[n]))
        one = together[:, n] if name == "tone_masks" else together[n]
        one = as_array(one)
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, alone, atol=1e-12 if one.dtype == np.float64 else 1e-6)
        else:
            assert np.array_equal(one, alone)


@every
def test_integers_agree_across_kinds_and_inputs_are_never_written(name):
    rng = np.random.default_rng(5)
    for channels in (1, 3):
        shape = (9, 8) if channels == 1 else (9, 8, 3)
        array = rng.integers(0, 256, shape, dtype=np.uint8)
        frozen = array.copy()
        frozen.flags.writeable = False
        tensor = as_tensor(array)
        if not fits(name, tensor):
            continue
        photo = Image.fromarray(array)
        result, from_tensor, from_photo = (ALL[name](x) for x in (frozen, tensor, photo))
        others = [from_photo, from_tensor if name == "tone_masks" else as_array(from_tensor)]
        for other in map(np.asarray, others):
            if name == "luma" and channels == 3 and other.ndim == 3:
                other = other[..., 0]  # tensors keep the axis
            if result.dtype == np.float32 and name in COLORED:
                np.testing.assert_allclose(other, result, atol=1e-5)
            else:
                assert np.array_equal(other, result)
        assert np.array_equal(as_array(tensor), array)
        assert np.array_equal(np.asarray(photo), array)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_what_cannot_be_written_is_read_beside_tensors(dtype):
    rng = np.random.default_rng(8)
    image = torch.from_numpy(rng.random((3, 8, 9)))
    reference = (rng.random((8, 9, 3)) * (255 if dtype == "uint8" else 1)).astype(dtype)
    mask, weights, table = rng.random((8, 9)) < 0.5, rng.random((8, 9)), rng.random((5, 3))
    for array in (reference, mask, weights, table):
        array.flags.writeable = False
    for method in ("reinhard", "monge-kantorovich"):
        imgops.transfer_color(image, reference, method=method, mask=mask)
        imgops.transfer_color(reference, image, method=method, mask=mask)
    imgops.match_histograms(image, reference, mask=mask)
    imgops.autocontrast(image, 1, 1, mask=mask)
    imgops.equalize(image, mask=mask)
    imgops.composite(image, image, mask=weights)
    imgops.pyramid_blend(image, image, weights)
    imgops.poisson_blend(image, image, mask)
    imgops.overlay(image, weights, colormap=table)
    imgops.blend_by_masks([image, image], [mask, ~mask])
    imgops.soft_histogram(image, mask=mask, weights=weights)


def test_masks_of_floats_lie_between_0_and_1_in_pillow_too():
    mask = np.zeros((6, 7), np.float32)
    mask[:, 3:] = 1
    assert np.array_equal(np.asarray(imgops.feather(Image.fromarray(mask), 2.0)), imgops.feather(mask, 2.0))
    with pytest.raises(TypeError, match=r"use `mask.convert\('L'\)`"):
        imgops.feather(Image.new("I", (7, 6)), 2.0)


@alike
def test_results_are_memory_of_their_own(name):
    for dtype in ("uint8", "float32"):
        array = (np.random.default_rng(6).random((8, 9, 3)) * (255 if dtype == "uint8" else 1)).astype(dtype)
        assert not np.may_share_memory(ALL[name](array), array)
        tensor = as_tensor(array)
        assert ALL[name](tensor).untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr()


# Those that look at values on the way: they count, sort or check them.
LOOKING = {
    "autocontrast", "autocontrast_lut", "blend_by_masks", "clahe", "draw_histogram", "equalize", "equalize_lut",
    "histogram", "joint_histogram", "match_histograms", "match_lut", "overlay", "poisson_blend", "specify_histogram",
    "threshold", "transfer_color",
}  # fmt: skip


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch knows no other device")
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("name", sorted({*ALL} - LOOKING))
def test_no_step_leaves_the_device(name):
    """Shapes and devices without values: mixing devices is an error there too, and no graphics card is needed."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    for shape in ((1, 8, 9), (3, 8, 9), (4, 8, 9), (2, 3, 8, 9)):
        with FakeTensorMode():
            image = torch.rand(shape, device="cuda")
            if fits(name, image) and not (name in SINGLE and len(shape) == 4):
                assert ALL[name](image).device.type == "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")
@every
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_another_device_gives_the_same(name, dtype):
    generator = torch.Generator().manual_seed(4)
    for channels in (1, 3, 4):
        image = torch.rand(channels, 8, 9, generator=generator)
        image = image if dtype.is_floating_point else (image * 255).to(dtype)
        if not fits(name, image):
            continue
        expected, found = ALL[name](image), ALL[name](image.cuda())
        if isinstance(found, torch.Tensor):
            assert found.is_cuda
            torch.testing.assert_close(found.cpu(), expected, atol=1e-5 if dtype.is_floating_point else 0, rtol=0)
        else:
            assert np.array_equal(found, expected)


_PHOTO = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: imgops.curve(_PHOTO, [(0, 0), (9, 5), (9, 7)]), ValueError, r"`points` .*\(9, 5\), \(9, 7\)"),
        (lambda: imgops.curve(_PHOTO, None), ValueError, "`points` .* None"),
        (lambda: imgops.curve(_PHOTO, [("a", 0), (1, 2)]), TypeError, "`points` .* 'a'"),
        (lambda: imgops.Lut.curve([0, 1]), ValueError, r"`points` .*\[0, 1\]"),
        (lambda: imgops.Lut.curve([(0, 0), (1, 1, 1)]), ValueError, "`points` .*two points"),
        (lambda: imgops.levels(_PHOTO, black=200, white=100), ValueError, "200 and 100"),
        (lambda: imgops.composite(_PHOTO, _PHOTO, mask=np.zeros((4, 5), np.int32)), TypeError, "`mask` .* int32"),
        (lambda: imgops.overlay(_PHOTO, np.zeros((4, 5), np.int32)), TypeError, "`map` .* int32"),
        (lambda: imgops.histogram(_PHOTO, weights=np.zeros((4, 5), np.int32)), TypeError, "`weights` .* int32"),
        (lambda: imgops.histogram(_PHOTO, bins="auto"), ValueError, "`bins` .* 'auto'"),
        (lambda: imgops.histogram(_PHOTO).percentile("x"), TypeError, "`q` .* 'x'"),
        (lambda: imgops.tone_masks(_PHOTO, "otsu"), TypeError, "`thresholds` .* 'otsu'"),
        (lambda: imgops.tone_masks(_PHOTO, 2.5), TypeError, "`thresholds` .* 2.5"),
        (lambda: imgops.contact_sheet([_PHOTO], background="no"), ValueError, "`background` .* 'no'"),
        (lambda: imgops.contact_sheet([_PHOTO], background=(1, 2)), ValueError, "`background` "),
    ],
)
def test_errors_name_the_argument_and_show_what_was_passed(call, error, words):
    with pytest.raises(error, match=words):
        call()
