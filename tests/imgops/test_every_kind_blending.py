"""Every kind of image through every function of blending: it comes back, or one clear error says what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cvkit import imgops

FLAGS = np.random.default_rng(0).random((6, 7)) < 0.5

PAIRS = {
    "composite": lambda a, b, **o: imgops.composite(a, b, mode="soft-light", opacity=0.4, **o),
    "composite, fast": lambda a, b, **o: imgops.composite(a, b, mask=FLAGS, **o),
    "dissolve": lambda a, b, **o: imgops.dissolve(a, b, 0.3, **o),
    "pyramid_blend": lambda a, b, **o: imgops.pyramid_blend(a, b, FLAGS, **o),
    "poisson_blend": lambda a, b, **o: imgops.poisson_blend(a, b, np.ones((6, 7), bool), shrink=0, **o),
}
SINGLES = {
    "draw_lines": lambda a, **o: imgops.draw_lines(a, [[[0, 0], [5, 5]]], **o),
    "draw_points": lambda a, **o: imgops.draw_points(a, [[3, 3]], **o),
    "draw_text": lambda a, **o: imgops.draw_text(a, "a", (0, 0), **o),
    "gaussian_blur": lambda a, **o: imgops.gaussian_blur(a, 1.0, **o),
    "resize": lambda a, **o: imgops.resize(a, (6, 7), **o),
    "watermark": lambda a, **o: imgops.watermark(a, "a", **o),
    "contact_sheet": lambda a, **o: imgops.contact_sheet([a], gap=0, **o),
    "srgb_to_linear": imgops.srgb_to_linear,
}
FUNCTIONS = {**PAIRS, **SINGLES}

PLAIN = ["1", "L", "LA", "RGB", "RGBA", "RGBX", "I;16", "I", "F"]
NOT_PLAIN = ["P", "PA", "CMYK", "RGBa", "La", "YCbCr", "HSV", "LAB"]
DTYPES = [bool, np.uint8, np.uint16, np.int16, np.float16, np.float32, np.float64]


def call(name, image, **options):
    return FUNCTIONS[name](image, image, **options) if name in PAIRS else FUNCTIONS[name](image, **options)


def picture(mode):
    rng = np.random.default_rng(1)
    if mode in {"I", "F"}:
        return Image.fromarray(rng.integers(0, 100, (6, 7)).astype(np.int32 if mode == "I" else np.float32))
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (6, 7)).astype(np.uint16))
    source = Image.fromarray(rng.integers(0, 256, (6, 7, 4), dtype=np.uint8))
    return source.convert("RGB").convert(mode) if mode in {"RGBX", "CMYK", "YCbCr", "HSV", "1"} else source.convert(
        {"LAB": "RGB", "PA": "LA", "La": "LA", "P": "L"}.get(mode, mode)
    )  # fmt: skip


@pytest.mark.parametrize("mode", PLAIN)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_pillow_modes_with_plain_colours_come_back(name, mode):
    image = picture(mode)
    before = image.tobytes()
    if name == "resize" and mode == "1":
        with pytest.raises(TypeError, match="convert"):
            call(name, image)
        return
    options = {"data_range": (0, 100)} if mode in {"I", "F"} else {}
    result = call(name, image, **options)
    expected = "RGB" if (name, mode) == ("contact_sheet", "RGBX") else mode
    assert (result.mode, result.size) == (expected, image.size)
    assert image.tobytes() == before


@pytest.mark.parametrize("mode", NOT_PLAIN)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_pillow_modes_without_plain_colours_name_a_conversion(name, mode):
    image = Image.new(mode, (7, 6))
    with pytest.raises(TypeError, match="use `"):
        call(name, image)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_of_every_dtype_and_memory_come_back(name, dtype):
    rng = np.random.default_rng(2)
    top = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1
    for channels in (None, 1, 2, 3, 4):
        image = (rng.random((6, 7) if channels is None else (6, 7, channels)) * top).astype(dtype)
        options = {"data_range": (0, top)} if dtype == np.int16 else {}
        result = call(name, image, **options)
        assert result.dtype == dtype
        assert result.shape == (image.shape if name != "contact_sheet" or channels != 1 else (6, 7))
        assert result.flags.c_contiguous
        assert result.flags.writeable
        frozen = image.copy()
        frozen.flags.writeable = False
        for other in (frozen, np.asfortranarray(image), np.ascontiguousarray(image[::-1])[::-1]):
            assert np.array_equal(call(name, other, **options), result)
        if np.dtype(dtype).itemsize > 1:
            swapped = image.astype(image.dtype.newbyteorder(">"))
            assert np.array_equal(call(name, swapped, **options), result)


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.uint16, torch.int16, torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_tensors_of_every_dtype_come_back(name, dtype):
    generator = torch.Generator().manual_seed(0)
    top = 1 if dtype.is_floating_point else torch.iinfo(dtype).max
    options = {"data_range": (0, top)} if dtype == torch.int16 else {}
    shapes = [(6, 7), (1, 6, 7), (3, 6, 7), (4, 6, 7)]
    shapes += [] if name == "contact_sheet" else [(2, 3, 6, 7), (2, 4, 6, 7), (0, 3, 6, 7)]
    for shape in shapes:
        image = (torch.rand(shape, generator=generator, dtype=torch.float64) * top).to(dtype)
        result = call(name, image, **options)
        assert result.dtype == dtype
        assert result.shape == shape
        if len(shape) == 4 and shape[0]:
            last = image.contiguous(memory_format=torch.channels_last)
            other = call(name, last, **options)
            assert other.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(other, result) or dtype.is_floating_point
            torch.testing.assert_close(other.double(), result.double(), atol=0.01, rtol=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_other_channel_axes_are_taken(name):
    image = np.random.default_rng(3).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    expected = call(name, image)
    result = call(name, np.ascontiguousarray(image.transpose(2, 0, 1)), channel_axis=0)
    assert np.array_equal(result.transpose(1, 2, 0), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_things_that_are_no_images_are_refused(name):
    for wrong in ([[1, 2], [3, 4]], "cat.png", None, np.zeros((2, 3), complex), np.zeros((2, 2, 2, 3)), np.zeros(5)):
        with pytest.raises((TypeError, ValueError), match="must"):
            call(name, wrong)


@pytest.mark.parametrize("name", [*FUNCTIONS, "linear_to_srgb", "luma", "feather", "overlay"])
def test_gradcheck(name):
    functions = {
        **FUNCTIONS,
        "linear_to_srgb": imgops.linear_to_srgb,
        "luma": imgops.luma,
        "feather": lambda a: imgops.feather(a[:1], 2.0, inside=True),
        "overlay": lambda a: imgops.overlay(a, a[0], fade=True),
    }
    # Distinct values, for soft light and the pairs' kinks, at least 1e-3 away from 0.25, 0.5 and each other.
    order = np.random.default_rng(4).permutation(3 * 6 * 7)
    image = torch.from_numpy(order.reshape(3, 6, 7) * 0.0071 + 0.0531).requires_grad_()
    other = torch.from_numpy(order[::-1].copy().reshape(3, 6, 7) * 0.0071 + 0.0553)

    def both(x):
        return FUNCTIONS[name](x, other) if name in PAIRS else functions[name](x)

    result = both(image)
    assert result.requires_grad
    assert torch.autograd.gradcheck(both, (image,), eps=1e-6, atol=1e-5)
