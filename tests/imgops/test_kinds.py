"""The kinds door itself; `test_every_kind.py` holds every function to it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit.imgops._kinds import check_same_kind, mask_scale, quantize, unpack, unpack_mask, working
from strategies import arrays, random_images

PLAIN = ["1", "L", "LA", "RGB", "RGBA", "RGBX", "I;16", "I;16L", "I;16B", "I", "F"]
RANGED = {"I", "F"}


def pillow(mode, size=(7, 5)):
    rng = np.random.default_rng(0)
    width, height = size
    if mode == "1":
        return Image.fromarray(rng.random((height, width)) > 0.5)
    if mode in {"I;16", "I;16L"}:
        return Image.frombytes(mode, size, rng.integers(0, 65536, (height, width)).astype("<u2").tobytes())
    if mode == "I;16B":
        return Image.frombytes(mode, size, rng.integers(0, 65536, (height, width)).astype(">u2").tobytes())
    if mode == "I":
        return Image.fromarray(rng.integers(-100000, 100000, (height, width)).astype(np.int32))
    if mode == "F":
        return Image.fromarray(rng.random((height, width)).astype(np.float32))
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, size, rng.integers(0, 256, (height, width, bands)).astype(np.uint8).tobytes())


@pytest.mark.parametrize("size", [(7, 5), (1, 1), (9, 1), (1, 4)])
@pytest.mark.parametrize("mode", PLAIN)
def test_pillow_modes_come_back_bit_for_bit(mode, size):
    image = pillow(mode, size)
    image.info["dpi"] = (72, 72)
    opened = unpack(image, data_range=(0, 1) if mode in RANGED else None)
    for back in (opened.pack(opened.pixels), opened.pack_color(opened.color)):
        assert back.mode == ("I;16" if mode == "I;16L" else mode)
        assert back.size == image.size
        assert back.info == image.info
        assert back.info is not image.info
        assert back.tobytes() == image.tobytes()


@pytest.mark.parametrize("mode", PLAIN)
def test_empty_pillow_images(mode):
    image = Image.new(mode, (0, 3))
    opened = unpack(image, data_range=(0, 1) if mode in RANGED else None)
    back = opened.pack(opened.pixels)
    assert (back.mode, back.size) == (mode, (0, 3))


@pytest.mark.fault("python-pillow/Pillow#9051")
@pytest.mark.parametrize(
    ("mode", "target"),
    [("P", "RGB"), ("PA", "RGBA"), ("CMYK", "RGB"), ("YCbCr", "RGB"), ("HSV", "RGB"), ("La", "LA"), ("RGBa", "RGBA")],
)
def test_other_modes_name_a_conversion_that_works(mode, target):
    image = Image.new(mode, (3, 2))
    with pytest.raises(TypeError, match=rf"mode '{mode}'.*convert\('{target}'\)"):
        unpack(image)
    unpack(image.convert(target))


def test_lab_names_the_way_that_pillow_has():
    with pytest.raises(TypeError, match="ImageCms"):
        unpack(Image.new("LAB", (3, 2)))


def test_palette_with_transparency_names_rgba():
    image = Image.new("P", (3, 2))
    image.info["transparency"] = 0
    with pytest.raises(TypeError, match="RGBA"):
        unpack(image)


@pytest.mark.parametrize(
    ("mode", "colors", "alpha", "channels"),
    [("L", 1, False, 1), ("LA", 1, True, 2), ("RGB", 3, False, 3), ("RGBA", 3, True, 4), ("RGBX", 3, False, 4)],
)
def test_where_colour_and_alpha_lie(mode, colors, alpha, channels):
    opened = unpack(pillow(mode))
    assert (opened.colors, opened.alpha, opened.pixels.shape) == (colors, alpha, (1, channels, 5, 7))
    assert opened.color.shape[1] == colors
    assert (opened.opacity is not None) == alpha


def test_alpha_false_makes_every_channel_colour():
    assert unpack(pillow("RGBA"), alpha=False).colors == 4
    assert unpack(np.zeros((3, 4, 2), np.uint8), alpha=False).colors == 2
    assert unpack(np.zeros((3, 4, 3), np.uint8), alpha=True).colors == 2


def test_more_than_four_channels_need_an_axis_and_have_no_alpha():
    cube = np.zeros((6, 7, 5), np.uint8)
    with pytest.raises(ValueError, match="channel_axis=-1"):
        unpack(cube)
    assert unpack(cube, channel_axis=-1).colors == 5
    assert unpack(cube, channel_axis=0).pixels.shape == (1, 6, 7, 5)
    with pytest.raises(ValueError, match="channel_axis=-3"):
        unpack(torch.zeros(5, 6, 7))
    assert unpack(torch.zeros(2, 5, 6, 7)).colors == 5


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_channel_axis_of_arrays(axis):
    rng = np.random.default_rng(1)
    usual = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    moved = np.moveaxis(usual, -1, axis)
    opened = unpack(moved, channel_axis=axis)
    assert (opened.pixels[0] == usual.transpose(2, 0, 1)).all()
    back = opened.pack(opened.pixels)
    assert back.flags.c_contiguous
    assert (back == moved).all()


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_channel_axis_of_batches(axis):
    usual = torch.rand(2, 3, 4, 5)
    moved = usual.movedim(1, axis)
    opened = unpack(moved, channel_axis=axis)
    assert opened.pixels.equal(usual)
    assert opened.pack(opened.pixels).equal(moved)


DTYPES = [torch.bool, torch.uint8, torch.uint16, torch.int16, torch.int32, torch.float16, torch.bfloat16, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (2, 4, 5, 7), (0, 3, 5, 7), (2, 3, 0, 7)])
def test_tensors_come_back_with_dtype_and_memory_format(dtype, shape):
    tensor = (torch.rand(shape) * 3).to(dtype)
    kinds = [tensor]
    if tensor.ndim == 4 and tensor.numel():
        kinds.append(tensor.contiguous(memory_format=torch.channels_last))
    if tensor.ndim == 3:
        kinds.append(tensor.permute(1, 2, 0).contiguous().permute(2, 0, 1))
    for each in kinds:
        opened = unpack(each, data_range=(0, 1) if dtype in {torch.int16, torch.int32} else None)
        assert isinstance(opened.pixels, torch.Tensor) == dtype.is_floating_point
        back = opened.pack(opened.pixels)
        assert back.dtype == dtype
        assert back.equal(each)
        if each.numel():
            assert back.stride() == each.stride()
            assert back.data_ptr() != each.data_ptr()


def test_float_tensors_stay_in_their_graph():
    tensor = torch.rand(3, 4, 5, requires_grad=True)
    opened = unpack(tensor)
    opened.pack_color(opened.color * 2).sum().backward()
    assert (tensor.grad == 2).all()
    tensor = torch.rand(4, 4, 5, requires_grad=True)
    opened = unpack(tensor)
    opened.pack_color(opened.color * 2).sum().backward()
    assert (tensor.grad[:3] == 2).all()
    assert (tensor.grad[3] == 1).all()


@given(random_images(), st.sampled_from(["read-only", "negative", "fortran", "cropped"]))
def test_memory_layouts_of_arrays(image, layout):
    if layout == "read-only":
        image.setflags(write=False)
    elif layout == "negative":
        image = image[::-1, ::-1]
    elif layout == "fortran":
        image = np.asfortranarray(image)
    else:
        image = np.pad(image, [(1, 2), (3, 0), (0, 0)][: image.ndim])[1:, 3:][: image.shape[0], : image.shape[1]]
    back = unpack(image).pack(unpack(image).pixels)
    assert (back == image).all()
    assert back.flags.c_contiguous
    assert back.flags.writeable
    assert not np.may_share_memory(back, image)


def test_byte_order_is_kept():
    image = np.arange(12, dtype=">u2").reshape(3, 4)
    opened = unpack(image)
    assert opened.pixels.dtype.isnative
    assert opened.pack(opened.pixels).dtype == image.dtype


@pytest.mark.parametrize("wrong", [[[1, 2]], "photo.png", None, 3, object()])
def test_things_that_are_no_images(wrong):
    with pytest.raises(TypeError, match="`image` must be a Pillow image"):
        unpack(wrong)


@pytest.mark.parametrize("dtype", ["int64", "uint32", "int8", "complex64", "object", "U3"])
def test_other_dtypes_name_a_conversion(dtype):
    with pytest.raises(TypeError, match="astype"):
        unpack(np.zeros((2, 3), dtype))


def test_other_tensors_name_a_conversion():
    with pytest.raises(TypeError, match="float"):
        unpack(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match="to_dense"):
        unpack(torch.eye(3).to_sparse())


def test_masked_arrays_are_refused():
    with pytest.raises(TypeError, match="masked array"):
        unpack(np.ma.masked_array(np.zeros((2, 3), np.uint8)))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4, 3), ()])
def test_shapes_of_arrays(shape):
    with pytest.raises(ValueError, match="shape"):
        unpack(np.zeros(shape, np.uint8))


def test_shapes_of_tensors():
    with pytest.raises(ValueError, match="shape"):
        unpack(torch.zeros(3))
    with pytest.raises(ValueError, match="at least one channel"):
        unpack(torch.zeros(0, 3, 4))
    with pytest.raises(ValueError, match="first axis of a batch"):
        unpack(torch.zeros(2, 3, 4, 5), channel_axis=0)
    with pytest.raises(ValueError, match="needs an axis"):
        unpack(torch.zeros(3, 4), channel_axis=0)
    with pytest.raises(ValueError, match="for arrays and tensors"):
        unpack(pillow("L"), channel_axis=0)


@pytest.mark.parametrize(
    ("alpha", "error"), [(True, ValueError), (1, TypeError), ("yes", TypeError)]
)  # fmt: skip
def test_alpha_is_checked(alpha, error):
    for image in (np.zeros((3, 4), np.uint8), pillow("L")):
        with pytest.raises(error, match="alpha"):
            unpack(image, alpha=alpha)


@pytest.mark.parametrize(
    ("data_range", "error"),
    [((1, 0), ValueError), ((0, 0), ValueError), ((0, 256), ValueError), ((0.5, 3), ValueError), (3, TypeError),
     ((0,), ValueError), ("01", TypeError), ((0, np.nan), ValueError), ((-1, 20), ValueError)],
)  # fmt: skip
def test_data_range_is_checked(data_range, error):
    with pytest.raises(error, match="data_range"):
        unpack(np.zeros((3, 4), np.uint8), data_range=data_range)


@pytest.mark.fault("scikit-image/scikit-image#4583")
def test_limits_may_be_scalars_of_the_images_own_dtype():
    opened = unpack(np.zeros((3, 4), np.int16), data_range=(np.int16(-32768), np.int16(32767)))
    assert opened.high - opened.low == 65535


@pytest.mark.parametrize("image", [np.zeros((2, 3), np.int16), Image.new("I", (2, 3)), Image.new("F", (2, 3))])
def test_kinds_without_a_usual_range_need_one(image):
    with pytest.raises(ValueError, match="`data_range` is needed"):
        unpack(image)
    unpack(image, needs_range=False)


def test_default_ranges():
    for dtype, high in (("bool", 1), ("uint8", 255), ("uint16", 65535), ("float32", 1)):
        opened = unpack(np.zeros((2, 3), dtype))
        assert (opened.low, opened.high, opened.integer) == (0, high, dtype != "float32")


# Masks


def test_masks_of_every_kind():
    image = unpack(np.zeros((4, 5, 3), np.uint8))
    rng = np.random.default_rng(0)
    plain = rng.random((4, 5)) > 0.5
    for mask in (
        plain, plain[..., None], torch.from_numpy(plain), torch.from_numpy(plain)[None], Image.fromarray(plain),
        Image.fromarray(plain.astype(np.uint8) * 255), plain.astype(np.float32), plain.astype(">u2"),
    ):  # fmt: skip
        view = unpack_mask(mask, image)
        assert isinstance(view, np.ndarray)
        assert view.shape == (1, 1, 4, 5)
        assert ((view[0, 0] != 0) == plain).all()
    tensor = unpack_mask(plain[::-1], unpack(torch.zeros(2, 3, 4, 5)))
    assert isinstance(tensor, torch.Tensor)
    assert (tensor[0, 0].numpy() == plain[::-1]).all()


def test_masks_of_batches():
    image = unpack(torch.zeros(2, 3, 4, 5))
    for shape, n in (((2, 4, 5), 2), ((2, 1, 4, 5), 2), ((1, 4, 5), 1), ((4, 5), 1)):
        assert unpack_mask(torch.zeros(shape), image).shape == (n, 1, 4, 5)
    for shape in ((3, 4, 5), (2, 3, 4, 5), (5, 4), (4,)):
        with pytest.raises(ValueError, match="height and width"):
            unpack_mask(torch.zeros(shape), image)


@pytest.mark.parametrize("mask", [Image.new("RGB", (5, 4)), [[1]], np.zeros((4, 5), complex)])
def test_wrong_masks(mask):
    with pytest.raises(TypeError, match="`mask`"):
        unpack_mask(mask, unpack(np.zeros((4, 5), np.uint8)))


def test_mask_scale():
    for dtype, scale in (("bool", 1), ("uint8", 255), ("uint16", 65535), ("float32", 1)):
        assert mask_scale(np.zeros(3, dtype)) == scale
    with pytest.raises(TypeError, match="`mask` must be"):
        mask_scale(np.zeros(3, np.int64))


# Two images


def test_same_kind():
    a = np.zeros((4, 5, 3), np.uint8)
    check_same_kind(unpack(a), unpack(a.copy()))
    for other, error, words in (
        (torch.zeros(3, 4, 5), TypeError, "kind"),
        (Image.new("RGB", (5, 4)), TypeError, "kind"),
        (a.astype(np.uint16), TypeError, "dtype"),
        (a[:3], ValueError, "size"),
        (a[..., 0], ValueError, "size"),
    ):
        with pytest.raises(error, match=words):
            check_same_kind(unpack(a), unpack(other, name="other"))
    with pytest.raises(TypeError, match="mode"):
        check_same_kind(unpack(Image.new("L", (5, 4))), unpack(Image.new("RGB", (5, 4))))
    with pytest.raises(ValueError, match="2 images of"):
        check_same_kind(unpack(torch.zeros(2, 3, 4, 5)), unpack(torch.zeros(1, 3, 4, 5)))
    with pytest.raises(ValueError, match="range"):
        check_same_kind(unpack(a), unpack(a, data_range=(0, 100)))


# Numbers


@given(arrays(np.float64, None))
def test_quantize_rounds_half_up_and_clips(image):
    values = np.concatenate([(image * 300 - 20).ravel(), [0.5, 1.5, 2.5, -7.0, 254.5, 300.0]])
    expected = [min(max(int(np.floor(v + 0.5)), 0), 255) for v in values]
    assert quantize(values, 0, 255, "uint8").tolist() == expected


def test_working_widens_half_precision_only():
    assert working(np.zeros(3, np.float16)).dtype == np.float32
    assert working(torch.zeros(3, dtype=torch.bfloat16)).dtype == torch.float32
    for same in (np.zeros(3), torch.zeros(3, dtype=torch.float64), np.zeros(3, np.uint8)):
        assert working(same) is same


def test_numpy_and_pillow_images_need_no_torch():
    code = """
import sys
import numpy as np
from PIL import Image
from cvkit import imgops
a = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
for image in (a, Image.fromarray(a)):
    imgops.equalize(image); imgops.clahe(image); imgops.gamma(image, 2.0); imgops.autocontrast(image)
    imgops.match_histograms(image, image); imgops.transfer_color(image, image); imgops.threshold(image)
    masks = imgops.tone_masks(image); imgops.blend_by_masks([image] * 3, masks)
    imgops.draw_histogram(imgops.histogram(image)); imgops.joint_histogram(image)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
