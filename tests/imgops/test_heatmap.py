from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image

from cvkit.imgops import apply_colormap, colormap, overlay
from cvkit.imgops.colormaps import curve
from strategies import SEEDS, random_images


def planes(image):
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


@given(random_images(channels=None))
def test_8_bit_pictures_take_the_tables_colours(image):
    expected = colormap("lagoon")[image]
    assert np.array_equal(apply_colormap(image, "lagoon"), expected)
    pillow = apply_colormap(Image.fromarray(image), "lagoon")
    assert pillow.mode == "RGB"
    assert np.array_equal(np.asarray(pillow), expected)
    tensor = torch.from_numpy(image)
    for one in (tensor, tensor[None]):
        assert np.array_equal(apply_colormap(one, "lagoon").numpy(), expected.transpose(2, 0, 1))
    assert apply_colormap(tensor[None, None], "lagoon").shape == (1, 3, *image.shape)


@given(random_images(dtype=np.float64, channels=None))
def test_floats_are_interpolated_between_entries(image):
    place = image * 255
    left = np.minimum(place.astype(int), 254)
    table = curve("ember", 256)
    expected = table[left] + (table[left + 1] - table[left]) * (place - left)[..., None]
    np.testing.assert_allclose(apply_colormap(image), expected, atol=1e-12)
    result = apply_colormap(torch.from_numpy(image))
    np.testing.assert_allclose(result.numpy(), expected.transpose(2, 0, 1), atol=1e-12)


@pytest.mark.parametrize("size", [(3, 4), (300, 300)])
def test_16_bit_pictures_keep_16_bit(size):
    image = np.random.default_rng(0).integers(0, 65536, size).astype(np.uint16)
    result = apply_colormap(image)
    assert result.dtype == np.uint16
    expected = apply_colormap(image / 65535.0) * 65535
    assert np.abs(result - expected).max() <= 0.5 + 1e-6


def test_dtypes_of_results():
    image = np.zeros((2, 3))
    for dtype, expected in (("float32", "float32"), ("float16", "float16"), ("bool", "uint8"), ("uint8", "uint8")):
        assert apply_colormap(image.astype(dtype)).dtype == expected
    assert apply_colormap(image.astype("int16"), data_range=(-5, 5)).dtype == np.uint8
    assert apply_colormap(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert apply_colormap(torch.zeros(2, 3, dtype=torch.int16), data_range=(0, 9)).dtype == torch.uint8
    assert apply_colormap(Image.new("F", (3, 2)), data_range=(0, 1)).mode == "RGB"
    assert apply_colormap(Image.new("I;16", (3, 2))).mode == "RGB"
    assert apply_colormap(Image.new("1", (3, 2))).mode == "RGB"


@pytest.mark.fault("kornia/kornia#4431")
def test_values_outside_are_clipped_and_nan_is_kept_in_floats():
    image = np.array([[-0.1, 0.0, 1.0, 1.0001, np.inf, -np.inf, np.nan]])
    result = apply_colormap(image)
    table = curve("ember", 256)
    np.testing.assert_allclose(result[0, :6], table[[0, 0, 255, 255, 255, 0]])
    assert np.isnan(result[0, 6]).all()
    picture = apply_colormap(Image.fromarray(image.astype(np.float32)), data_range=(0, 1))
    assert picture.getpixel((6, 0)) == tuple(colormap()[0])


def test_data_range_spreads_the_map():
    image = np.array([[10, 15, 20, 40]], np.uint8)
    assert apply_colormap(image, "gray", data_range=(10, 20))[0, :, 0].tolist() == [0, 128, 255, 255]


def test_apply_colormap_is_differentiable():
    values = (
        torch.rand(1, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 254 // 1 + 0.4
    ) / 255
    assert torch.autograd.gradcheck(apply_colormap, (values.requires_grad_(),))


def test_pictures_with_several_channels_are_refused():
    with pytest.raises(ValueError, match=r"one channel; got 5; a batch of maps \(N, H, W\) is `maps\[:, None\]`"):
        apply_colormap(torch.zeros(5, 3, 4), channel_axis=0)
    with pytest.raises(ValueError, match="one channel"):
        apply_colormap(np.zeros((3, 4, 3)))
    with pytest.raises(ValueError, match="`colormap` must be one of"):
        apply_colormap(np.zeros((3, 4)), "jet")


# overlay


def photo(seed=0, channels=3, shape=(5, 7)):
    return np.random.default_rng(seed).integers(0, 256, (*shape, channels), dtype=np.uint8)


@given(SEEDS)
def test_overlay_is_the_rounded_mix_of_photo_and_colours(seed):
    image = photo(seed)
    values = np.random.default_rng(seed).random((5, 7))
    colors = apply_colormap(values) * 255
    result = overlay(image, values, alpha=0.4)
    assert np.array_equal(result, np.floor(image * 0.6 + colors * 0.4 + 0.5 + 1e-9).astype(np.uint8))
    faded = overlay(image, values, alpha=0.4, fade=True)
    share = 0.4 * values[..., None]
    assert np.array_equal(faded, np.floor(image * (1 - share) + colors * share + 0.5 + 1e-9).astype(np.uint8))


def test_overlay_gives_the_photographs_kind_back():
    image, values = photo(), np.random.default_rng(1).random((5, 7)).astype(np.float32)
    expected = overlay(image, values)
    for one in (values, torch.from_numpy(values), torch.from_numpy(values)[None], Image.fromarray(values)):
        assert np.array_equal(overlay(image, one), expected)
    pillow = overlay(Image.fromarray(image), torch.from_numpy(values).requires_grad_())
    assert np.array_equal(np.asarray(pillow), expected)
    assert np.array_equal(overlay(planes(image), values).numpy(), expected.transpose(2, 0, 1))
    words = overlay(image.astype(np.uint16) * 257, values)
    assert words.dtype == np.uint16
    floats = overlay(planes(image) / 255, torch.from_numpy(values))
    assert floats.dtype == torch.float32
    assert np.abs(floats.numpy() * 255 - expected.transpose(2, 0, 1)).max() < 0.51


def test_overlay_of_a_batch_takes_a_map_for_each():
    images = torch.stack([planes(photo(i)) for i in range(3)])
    maps = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    result = overlay(images, maps)
    assert torch.equal(result, overlay(images, maps[:, None]))
    for i in range(3):
        assert torch.equal(result[i], overlay(images[i], maps[i]))


def test_overlay_leaves_alpha_alone():
    image, values = photo(channels=4), np.zeros((5, 7))
    result = overlay(image, values)
    assert np.array_equal(result[..., 3], image[..., 3])
    assert np.array_equal(result[..., :3], overlay(image[..., :3], values))
    floats = overlay(planes(image) / 255.0, values)
    assert torch.equal(floats[3], planes(image)[3] / 255.0)


def test_a_grey_photograph_becomes_coloured():
    image, values = photo(channels=1)[..., 0], np.random.default_rng(2).random((5, 7))
    expected = overlay(np.repeat(image[..., None], 3, -1), values)
    assert np.array_equal(overlay(image, values), expected)
    assert overlay(Image.fromarray(image), values).mode == "RGB"
    assert overlay(Image.fromarray(image).convert("LA"), values).mode == "RGBA"
    assert overlay(torch.from_numpy(image), values).shape == (3, 5, 7)
    assert overlay(torch.from_numpy(image)[None, None] / 255, values).shape == (1, 3, 5, 7)
    flags = image > 99
    assert np.array_equal(overlay(flags, values), overlay(flags.astype(np.uint8) * 255, values))


def test_map_dtypes_mean_the_same():
    image, flags = photo(), photo(3, 1)[..., 0] > 99
    expected = overlay(image, flags)
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535), (np.float64, 1)):
        assert np.array_equal(overlay(image, flags.astype(dtype) * dtype(top)), expected)
    assert np.array_equal(overlay(image, Image.fromarray(flags)), expected)


def test_alpha_zero_returns_the_photograph_bit_for_bit():
    image = photo()
    assert np.array_equal(overlay(image, np.ones((5, 7)), alpha=0), image)
    floats = torch.rand(3, 5, 7)
    result = overlay(floats, np.ones((5, 7)), alpha=0)
    assert torch.equal(result, floats)
    assert result.data_ptr() != floats.data_ptr()


def test_overlay_is_differentiable_in_photo_and_map():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 2, 3, generator=generator, dtype=torch.float64) * 0.8 + 0.1
    values = ((torch.rand(2, 3, generator=generator, dtype=torch.float64) * 254) // 1 + 0.4) / 255
    for fade in (False, True):
        function = lambda x, m: overlay(x, m, fade=fade)  # noqa: B023, E731
        assert torch.autograd.gradcheck(function, (image.requires_grad_(), values.requires_grad_()))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (0, 4), (3, 0)])
def test_overlay_of_small_and_empty_pictures(shape):
    assert overlay(np.zeros((*shape, 3), np.uint8), np.zeros(shape)).shape == (*shape, 3)
    assert apply_colormap(np.zeros(shape, np.uint8)).shape == (*shape, 3)
    assert overlay(torch.zeros(0, 3, 4, 5), torch.zeros(0, 4, 5)).shape == (0, 3, 4, 5)


@pytest.mark.parametrize("value", [-0.1, 1.0001, np.nan, np.inf])
def test_floats_outside_their_range_are_refused(value):
    good = np.zeros((2, 3))
    bad = good.copy()
    bad[1, 1] = value
    with pytest.raises(ValueError, match=r"`map` of floats must lie in \[0, 1\]"):
        overlay(np.zeros((2, 3), np.uint8), bad)
    with pytest.raises(ValueError, match=r"`image` of floats must lie in \[0, 1\]"):
        overlay(bad, good)
    with pytest.raises(ValueError, match=r"`image` of floats must lie in \[0, 1\]"):
        overlay(torch.from_numpy(bad).requires_grad_(), good)


def test_sizes_must_match():
    with pytest.raises(ValueError, match=r"`map` must have the image's height and width, \(5, 7\)"):
        overlay(photo(), np.zeros((7, 5)))
    with pytest.raises(ValueError, match="one or three colour channels"):
        overlay(np.zeros((2, 2, 5)), np.zeros((2, 2)), channel_axis=-1)
    with pytest.raises(ValueError, match="`alpha` must lie in"):
        overlay(photo(), np.zeros((5, 7)), alpha=2)
    with pytest.raises(TypeError, match="`map` must be"):
        overlay(photo(), [[0]])


def test_inputs_are_not_written():
    image, values = photo(), np.zeros((5, 7))
    image.flags.writeable = values.flags.writeable = False
    result = overlay(image, values)
    assert result.flags.writeable
    assert result.flags.c_contiguous
    assert np.array_equal(overlay(image[::-1], values[::-1])[::-1], result)
