from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image

from cvkit.imgops import (
    lab_to_rgb,
    linear_to_srgb,
    luma,
    oklab_to_rgb,
    rgb_to_lab,
    rgb_to_oklab,
    srgb_to_linear,
)
from strategies import SEEDS, random_images

SPACES = [(rgb_to_lab, lab_to_rgb), (rgb_to_oklab, oklab_to_rgb)]


def test_the_curve_at_its_knots():
    values = np.array([[0.0, 0.04045, 0.5, 1.0]])
    np.testing.assert_allclose(srgb_to_linear(values), [[0, 0.04045 / 12.92, 0.21404114, 1]], atol=1e-8)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-7)


@given(random_images(dtype=np.float64, channels=3))
def test_the_curves_are_inverse(image):
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(image)), image, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(3, 4), (300, 400)])
def test_whole_numbers_are_rounded_half_up_by_table_or_directly(dtype, size):
    top = np.iinfo(dtype).max
    image = np.random.default_rng(0).integers(0, top, size, dtype=dtype, endpoint=True)
    for function in (srgb_to_linear, linear_to_srgb):
        expected = np.floor(function(image / top) * top + 0.5).astype(dtype)
        assert np.array_equal(function(image), expected)
        assert np.array_equal(function(torch.from_numpy(image)).numpy(), expected)


def test_sixteen_bit_hold_all_levels_of_eight():
    levels = np.arange(256, dtype=np.uint16)[None] * 257
    back = linear_to_srgb(srgb_to_linear(levels)) / 257
    assert np.array_equal(np.floor(back + 0.5), levels / 257)


def test_alpha_has_no_curve():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 4), dtype=np.uint8)
    result = srgb_to_linear(image)
    assert np.array_equal(result[..., 3], image[..., 3])
    assert np.array_equal(result[..., :3], srgb_to_linear(image[..., :3]))
    pillow = srgb_to_linear(Image.fromarray(image))
    assert np.array_equal(np.asarray(pillow), result)


def test_floats_outside_are_carried_on_and_nan_is_kept():
    result = srgb_to_linear(np.array([[-0.1, 2.0, np.nan]]))
    assert result[0, 0] == pytest.approx(-0.1 / 12.92)
    assert result[0, 1] > 4
    assert np.isnan(result[0, 2])
    assert linear_to_srgb(np.array([[-0.1]]))[0, 0] == pytest.approx(-1.292)


# luma


def test_luma_of_the_primaries():
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    assert luma(image).tolist() == [[76, 150, 29, 255]]
    assert luma(image, weights="709").tolist() == [[54, 182, 18, 255]]


@given(random_images(channels=3))
def test_luma_is_exactly_rounded(image):
    sums = image.astype(np.int64) @ [299, 587, 114]
    expected = ((sums + 500) // 1000).astype(np.uint8)
    assert np.array_equal(luma(image), expected)
    assert np.array_equal(np.asarray(luma(Image.fromarray(image))), expected)
    assert np.array_equal(luma(torch.from_numpy(image.transpose(2, 0, 1).copy())).numpy()[0], expected)


def test_luma_keeps_alpha_and_leaves_grey_alone():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 4), dtype=np.uint8)
    result = luma(image)
    assert np.array_equal(result[..., 1], image[..., 3])
    assert np.array_equal(result[..., 0], luma(image[..., :3]))
    assert luma(Image.fromarray(image)).mode == "LA"
    assert luma(torch.rand(2, 4, 3, 5)).shape == (2, 2, 3, 5)
    grey = image[..., 0]
    assert np.array_equal(luma(grey), grey)
    assert luma(torch.rand(3, 5)).shape == (3, 5)
    with pytest.raises(ValueError, match="one or three colour channels"):
        luma(image, alpha=False)
    with pytest.raises(ValueError, match="`weights` must be one of"):
        luma(image, weights="2020")


# Lab and OKLab


def test_lab_of_known_colours():
    colors = np.array([[[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]]])
    expected = [
        [100, 0, 0],
        [0, 0, 0],
        [53.24, 80.09, 67.20],
        [87.73, -86.18, 83.18],
        [32.30, 79.19, -107.86],
        [53.39, 0, 0],
    ]
    np.testing.assert_allclose(rgb_to_lab(colors)[0], expected, atol=0.02)
    assert np.abs(rgb_to_lab(colors)[0, [0, 5], 1:]).max() < 1e-12
    known = [
        [1, 0, 0],
        [0, 0, 0],
        [0.628, 0.225, 0.126],
        [0.866, -0.234, 0.179],
        [0.452, -0.032, -0.312],
        [0.598, 0, 0],
    ]
    np.testing.assert_allclose(rgb_to_oklab(colors)[0], known, atol=1e-3)


def test_lab_agrees_with_scikit_image():
    peer = pytest.importorskip("skimage.color")
    image = np.random.default_rng(0).random((7, 9, 3))
    np.testing.assert_allclose(rgb_to_lab(image), peer.rgb2lab(image), atol=0.02)  # whose white is rounded
    np.testing.assert_allclose(lab_to_rgb(rgb_to_lab(image)), peer.lab2rgb(peer.rgb2lab(image)), atol=1e-3)


@given(SEEDS)
@pytest.mark.parametrize("spaces", SPACES)
def test_spaces_go_there_and_back(spaces, seed):
    there, back = spaces
    image = np.random.default_rng(seed).random((4, 5, 3))
    np.testing.assert_allclose(back(there(image)), image, atol=1e-9)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    torch.testing.assert_close(back(there(tensor)), tensor, atol=1e-9, rtol=0)
    np.testing.assert_allclose(there(tensor).numpy().transpose(1, 2, 0), there(image), atol=1e-12)


@pytest.mark.parametrize("spaces", SPACES)
def test_8_bit_pictures_survive_in_float32(spaces):
    there, back = spaces
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    space = there(image)
    assert (space.dtype, space.shape) == (np.float32, image.shape)
    assert np.array_equal(np.floor(back(space) * 255 + 0.5).astype(np.uint8), image)
    assert np.array_equal(there(Image.fromarray(image)), space)
    tensor = there(torch.from_numpy(image.transpose(2, 0, 1).copy()))
    assert np.array_equal(tensor.numpy().transpose(1, 2, 0), space)
    assert there(torch.zeros(2, 3, 4, 5, dtype=torch.uint8)).shape == (2, 3, 4, 5)


@pytest.mark.parametrize("spaces", SPACES)
def test_spaces_are_differentiable_and_finite_at_black(spaces):
    there, back = spaces
    image = torch.rand(3, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.9 + 0.05
    assert torch.autograd.gradcheck(lambda x: back(there(x), clip=False), (image.requires_grad_(),))
    black = torch.zeros(3, 2, 2, requires_grad=True)
    there(black).sum().backward()
    assert black.grad.isfinite().all()


def test_colours_outside_srgb_are_clipped_or_not():
    wild = np.array([[[50.0, 120.0, -90.0]]])
    assert lab_to_rgb(wild).min() == 0
    assert lab_to_rgb(wild, clip=False).min() < 0


@pytest.mark.parametrize("spaces", SPACES)
def test_wrong_pictures_are_refused(spaces):
    there, back = spaces
    with pytest.raises(ValueError, match="three channels"):
        there(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="three channels"):
        back(np.zeros((2, 3, 4)))
    with pytest.raises(TypeError, match="floating-point"):
        back(np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(TypeError, match="floating-point"):
        back(Image.new("RGB", (2, 2)))
    assert there(np.zeros((0, 3, 3))).shape == (0, 3, 3)
