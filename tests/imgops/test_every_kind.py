"""What holds for every tone function and every kind of image: same kind out, same integers, input untouched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit import imgops
from strategies import random_images

REFERENCE = np.random.default_rng(7).integers(30, 220, (9, 11, 3)).astype(np.uint8)


def reference_for(image):
    """A reference with as many colours as the image."""
    if isinstance(image, Image.Image):
        colors = 3 if image.mode.startswith("RGB") else 1
    else:
        shape = tuple(image.shape)
        channels = 1 if len(shape) == 2 else shape[-1] if isinstance(image, np.ndarray) else shape[-3]
        colors = channels - (channels in {2, 4})
    return REFERENCE if colors == 3 else REFERENCE[..., 0]


def blended(image, **options):
    masks = imgops.tone_masks(image, softness=0.7, **options)
    edits = [imgops.invert(image, **options), image, imgops.gamma(image, 0.8, **options)]
    return imgops.blend_by_masks(edits, masks, **options)


# The functions by name: those that work on each colour channel of any image ...
ANY = {
    "autocontrast": imgops.autocontrast,
    "autocontrast-cut": lambda image, **o: imgops.autocontrast(image, 5, 10, **o),
    "clahe": lambda image, **o: imgops.clahe(image, grid_size=(3, 2), **o),
    "clahe-even": lambda image, **o: imgops.clahe(image, grid_size=(2, 2), spread="even", clip_limit=1.5, **o),
    "curve": imgops.Lut.curve([(0, 0.1), (0.4, 0.3), (1, 0.9)]),
    "equalize": imgops.equalize,
    "equalize-pillow": lambda image, **o: imgops.equalize(image, method="pillow", **o),
    "gamma": lambda image, **o: imgops.gamma(image, 1.7, gain=1.1, **o),
    "invert": imgops.invert,
    "levels": imgops.Lut.gamma(0.9) @ imgops.Lut.levels(0.1, 0.8, 1.3),
    "log": imgops.log,
    "log-inverse": lambda image, **o: imgops.log(image, inverse=True, **o),
    "match": lambda image, **o: imgops.match_histograms(image, reference_for(image), **o),
    "posterize": lambda image, **o: imgops.posterize(image, 3, **o),
    "sigmoid": imgops.sigmoid,
    "solarize": imgops.solarize,
    "specify": lambda image, **o: imgops.specify_histogram(image, np.array([1, 2, 3, 1]), **o),
    "threshold": imgops.threshold,
}
# ... and those that need luma or three colours.
GRAY_OR_RGB = {
    "autocontrast-luma": lambda image, **o: imgops.autocontrast(image, by="luma", **o),
    "blend-by-masks": blended,
    "clahe-luma": lambda image, **o: imgops.clahe(image, grid_size=(2, 3), by="luma", **o),
    "equalize-luma": lambda image, **o: imgops.equalize(image, by="luma", **o),
}
RGB = {
    "reinhard": lambda image, **o: imgops.transfer_color(image, REFERENCE, **o),
    "monge-kantorovich": lambda image, **o: imgops.transfer_color(image, REFERENCE, method="monge-kantorovich", **o),
}
ALL = {**ANY, **GRAY_OR_RGB, **RGB}
ALPHA_CHANNELS = {2: "LA", 4: "RGBA"}
every = pytest.mark.parametrize("name", ALL)


def photo(dtype="uint8", shape=(9, 7, 3), seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(np.cumsum(rng.random(shape), 0), 1)
    unit = (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 0.8 + 0.1
    if np.dtype(dtype).kind == "f":
        return unit.astype(dtype)
    top = 1 if dtype == "bool" else np.iinfo(dtype).max
    return np.floor(unit * top + 0.5).astype(dtype)


def as_tensor(array):
    return torch.from_numpy(np.moveaxis(array, -1, 0).copy() if array.ndim == 3 else array.copy())


def as_array(result):
    """Any kind as an array with the channels last."""
    if isinstance(result, torch.Tensor):
        array = result.detach().float().numpy() if result.dtype == torch.bfloat16 else result.detach().numpy()
        return np.moveaxis(array, -3, -1) if array.ndim >= 3 else array
    return np.asarray(result)


@every
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_numpy_equals_tensor_equals_pillow(name, dtype):
    run = ALL[name]
    options = {"data_range": (-200, 32000)} if dtype == "int16" else {}
    image = photo(dtype)
    result = run(image, **options)
    assert (result.dtype, result.shape) == (image.dtype, image.shape)
    tensor = run(as_tensor(image), **options)
    assert (tensor.dtype, tensor.shape) == (as_tensor(image).dtype, (3, 9, 7))
    assert (as_array(tensor) == result).all()
    if dtype == "uint8":
        pillow = run(Image.fromarray(image))
        assert pillow.mode == "RGB"
        assert (np.asarray(pillow) == result).all()


@pytest.mark.parametrize("name", [*ANY, *GRAY_OR_RGB])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGBA", "RGBX", "I;16"])
def test_pillow_modes_equal_arrays(name, mode):
    array = photo("uint16" if mode == "I;16" else "uint8", (6, 8))
    if mode == "I;16":
        image = Image.fromarray(array)
    elif mode == "1":
        array = array > 120
        image = Image.fromarray(array)
    else:
        bands = len(Image.new(mode, (1, 1)).getbands())
        array = photo("uint8", (6, 8, bands)) if bands > 1 else array
        image = Image.frombytes(mode, (8, 6), array.tobytes())
    image.info["dpi"] = (72, 72)
    result = ALL[name](image)
    assert (result.mode, result.size, result.info) == (mode, image.size, {"dpi": (72, 72)})
    if mode == "RGBX":
        expected = np.concatenate([ALL[name](array[..., :3].copy()), array[..., 3:]], -1)
        assert np.frombuffer(result.tobytes(), np.uint8).reshape(array.shape).tolist() == expected.tolist()
    else:
        assert (np.asarray(result) == ALL[name](array)).all()


@every
def test_pillow_i_and_f_work_within_a_range(name):
    if name in RGB:
        return
    whole = (photo("float64", (6, 8)) * 1000).astype(np.int32)
    result = ALL[name](Image.fromarray(whole), data_range=(0, 1000))
    assert result.mode == "I"
    assert (np.asarray(result) == ALL[name](whole, data_range=(0, 1000))).all()
    real = photo("float32", (6, 8)) * 4
    result = ALL[name](Image.fromarray(real), data_range=(0, 4))
    assert result.mode == "F"
    np.testing.assert_allclose(np.asarray(result), ALL[name](real, data_range=(0, 4)))


@every
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_agree_across_kinds(name, dtype):
    image = photo(dtype)
    result = ALL[name](image)
    assert (result.dtype, result.shape) == (image.dtype, image.shape)
    tensor = ALL[name](as_tensor(image))
    assert tensor.dtype == as_tensor(image).dtype
    atol = {"float16": 2e-3, "float32": 2e-5 if name in RGB else 2e-6, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(as_array(tensor), result, atol=atol)
    assert result.min() >= 0
    assert result.max() <= 1


# Half a level from rounding the result; functions that round values on the way differ by a level or two.
STEPS = {"posterize", "threshold", "solarize"}


@pytest.mark.parametrize("name", [n for n in ALL if n not in STEPS])
def test_floats_agree_with_integers(name):
    image = photo("uint8", (47, 61, 3))
    off = np.abs(ALL[name](image / 255.0) * 255 - ALL[name](image))
    # Integers round luma, masks and tables on the way.
    assert off.max() <= (3.0 if "luma" in name or "masks" in name else 1.5 if "clahe" in name else 1.0)


@every
def test_bfloat16(name):
    image = as_tensor(photo("float32")).bfloat16()
    result = ALL[name](image)
    assert (result.dtype, result.shape) == (torch.bfloat16, image.shape)
    exact = ALL[name](image.double())
    assert (result.double() - exact).abs().max() <= 2**-7


@every
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_batch_equals_loop(name, dtype):
    batch = torch.stack([as_tensor(photo(dtype, seed=seed)) for seed in range(3)])
    result = ALL[name](batch)
    for one, image in zip(result, batch, strict=True):
        # The ends of vectors are computed by other instructions than their middles.
        assert one.equal(ALL[name](image)) if dtype == "uint8" else torch.allclose(one, ALL[name](image), atol=1e-6)
    last = batch.contiguous(memory_format=torch.channels_last)
    again = ALL[name](last)
    assert again.is_contiguous(memory_format=torch.channels_last)
    assert again.equal(result) if dtype == "uint8" else torch.allclose(again, result, atol=1e-6)


@every
def test_channel_axis(name):
    image = photo()
    result = ALL[name](image)
    if name in {"match", *RGB}:  # there the axis is the reference's as well
        return
    assert (as_array(ALL[name](torch.from_numpy(image), channel_axis=-1).movedim(-1, 0)) == result).all()
    planar = np.ascontiguousarray(image.transpose(2, 0, 1))
    assert (ALL[name](planar, channel_axis=0) == result.transpose(2, 0, 1)).all()


@every
@pytest.mark.parametrize("layout", ["read-only", "negative strides", "Fortran order", "big-endian", "cropped"])
def test_memory_layouts(name, layout):
    image = photo("uint16" if layout == "big-endian" else "uint8")
    if layout == "read-only":
        odd = image.copy()
        odd.setflags(write=False)
    elif layout == "negative strides":
        odd = image[::-1, :, ::-1].copy()[::-1, :, ::-1]
    elif layout == "Fortran order":
        odd = np.asfortranarray(image)
    elif layout == "big-endian":
        odd = image.astype(">u2")
    else:
        odd = np.pad(image, [(1, 1), (2, 0), (0, 1)])[1:-1, 2:, :-1]
    before = odd.copy()
    result = ALL[name](odd)
    assert (result == ALL[name](image)).all()
    assert (odd == before).all()
    assert result.dtype == odd.dtype
    assert result.flags.c_contiguous
    assert result.flags.writeable
    assert not np.may_share_memory(result, odd)


@every
def test_inputs_are_never_written(name):
    for image in (photo(), as_tensor(photo()), as_tensor(photo("float32")), Image.fromarray(photo())):
        before = as_array(image).copy()
        result = ALL[name](image)
        assert (as_array(image) == before).all()
        if isinstance(result, torch.Tensor):
            assert result.data_ptr() != image.data_ptr()


@every
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_alpha_is_left_alone(name, dtype):
    image = photo(dtype, (9, 7, 4))
    image[2:4, 1:5, 3] = 0
    for kind in (image, as_tensor(image)):
        result = as_array(ALL[name](kind))
        assert (result[..., 3] == image[..., 3]).all()
        assert (result[..., :3] != image[..., :3]).any() or name == "equalize-pillow"


@pytest.mark.fault("scikit-image/scikit-image#5948")
@every
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 1), (0, 4), (4, 0)])
def test_tiny_and_empty_images(name, shape):
    shape = (*shape, 3) if name in RGB else shape
    for dtype in ("uint8", "uint16", "float32", "bool"):
        image = np.full(shape, 1 if dtype == "bool" else 0.25 if dtype == "float32" else 90).astype(dtype)
        for kind in (image, as_tensor(image)):
            result = as_array(ALL[name](kind))
            assert (result.shape, result.dtype) == (image.shape, image.dtype)
            assert np.isfinite(result.astype(float)).all()
    assert ALL[name](torch.rand(0, 3, 4, 5)).shape == (0, 3, 4, 5)
    if name not in RGB:
        assert ALL[name](Image.new("L", (0, 3))).size == (0, 3)


KEEP = {"autocontrast", "autocontrast-cut", "autocontrast-luma", "equalize", "equalize-pillow", "equalize-luma"}


@pytest.mark.fault("scikit-image/scikit-image#4596")
@every
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64", "bool"])
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_constant_images_stay_constant(name, dtype, value):
    top = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    image = np.full((6, 5, 3), value * top).astype(dtype)
    result = ALL[name](image)
    assert np.isfinite(result.astype(float)).all()
    if name not in RGB:
        assert (result == result[0, 0]).all() or np.ptp(result.astype(float)) < 1e-6
    if name in KEEP:
        assert (result == image).all()


@every
def test_nan_is_kept_and_not_looked_at(name):
    image = photo("float64", (8, 9, 3))
    hidden = image.copy()
    hidden[3, 4, 1] = hidden[0, 0, 2] = np.nan
    for kind in (hidden, as_tensor(hidden)):
        result = as_array(ALL[name](kind))
        assert np.isnan(result[3, 4, 1])
        assert np.isnan(result[0, 0, 2])
        known = ~np.isnan(result)
        assert np.isfinite(result[known]).all()
        # Where channels are mixed, the pixel's other channels are lost with it.
        assert (~known).sum() == 2 or (name in {*GRAY_OR_RGB, *RGB} and (~known).any(-1).sum() == 2)


@every
def test_values_outside_the_range_count_as_its_ends(name):
    image = photo("float64")
    wild = image.copy()
    wild[0, 0], wild[1, 1], wild[2, 2] = -0.3, 1.7, np.inf
    tame = np.clip(wild, 0, 1)
    if name in {"blend-by-masks"}:
        wild[2, 2] = 1.7  # the difference of two infinities is none
    if name in RGB:
        return
    result = ALL[name](wild)
    assert np.isfinite(result).all()
    if name not in {*GRAY_OR_RGB, "autocontrast", "autocontrast-cut"}:
        np.testing.assert_allclose(result, ALL[name](tame), atol=1e-12)


@pytest.mark.parametrize("name", ANY)
def test_five_channels_are_all_colour(name):
    image = photo("uint8", (6, 7, 5))
    if name == "match":
        result = imgops.match_histograms(image, REFERENCE[..., 0], channel_axis=-1)
        single = imgops.match_histograms(image[..., 4].copy(), REFERENCE[..., 0])
    else:
        result = ANY[name](image, channel_axis=-1)
        single = ANY[name](image[..., 4].copy())
    assert (result[..., 4] == single).all()


THREADED = {
    "equalize": imgops.equalize,
    "clahe": imgops.clahe,
    "match": lambda image, **o: imgops.match_histograms(image, REFERENCE, **o),
    "gamma": lambda image, **o: imgops.gamma(image, 0.4, **o),
    "autocontrast": imgops.autocontrast,
    "threshold": imgops.threshold,
    "invert": imgops.invert,
    "blend": lambda image, **o: imgops.blend_by_masks([image, 255 - image, image], imgops.tone_masks(image), **o),
}


@pytest.mark.parametrize("name", THREADED)
def test_integers_do_not_depend_on_the_number_of_threads(name):
    image = photo("uint8", (211, 317, 3))
    expected = THREADED[name](image)
    for threads in (2, 3):
        assert (THREADED[name](image, threads=threads) == expected).all()
    with pytest.raises(ValueError, match="threads"):
        THREADED[name](image, threads=0)


@given(random_images(np.uint8), st.sampled_from([n for n in ANY if n != "match"]))
def test_random_images_of_any_shape_agree_across_kinds(image, name):
    result = ANY[name](image)
    assert result.shape == image.shape
    assert (as_array(ANY[name](as_tensor(image))).reshape(image.shape) == result).all()


# Fast and still differentiable


@pytest.mark.parametrize("name", ALL)
def test_float_tensors_keep_their_graph_and_gradients_are_finite(name):
    image = as_tensor(photo("float64"))
    # Also at the ends of the range and at equal values, where formulas have kinks.
    image[:, 0, 0], image[:, 1, 1], image[:, 2] = 0.0, 1.0, 0.5
    image.requires_grad_()
    result = ALL[name](image)
    assert result.requires_grad
    (grad,) = torch.autograd.grad(result.sum(), image)
    assert torch.isfinite(grad).all()


FLAT = {"match", "specify", "posterize", "threshold"}  # zero gradient: the tables are built from ranks, or have steps


def apart(seed, shape=(3, 4, 5)):
    """Distinct values whose neighbours on every grid used here are at least 1e-3 away."""
    rng = np.random.default_rng(seed)
    values = (rng.permutation(int(np.prod(shape))) * 2 + 21) / 255.0 + 0.0013
    return torch.from_numpy(values.reshape(shape)).requires_grad_()


@pytest.mark.parametrize("name", [n for n in ALL if n != "blend-by-masks"])
def test_gradcheck(name):
    image = apart(3)
    if name in FLAT:
        (grad,) = torch.autograd.grad(ALL[name](image).sum(), image)
        assert (grad == 0).all()
    else:
        assert torch.autograd.gradcheck(ALL[name], image, eps=1e-6, atol=1e-4)
