from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit import geometry
from cvkit.imgops import composite, feather, gaussian_blur, resize
from reference.imgops_smoothing import blur_line
from strategies import SEEDS, random_images


@given(random_images(dtype=np.float64, channels=None), st.floats(0.1, 4), st.floats(0.1, 4))
def test_blur_is_the_weighted_sum_with_mirrored_edges(image, vertical, horizontal):
    expected = np.array([blur_line(row, horizontal) for row in image])
    expected = np.array([blur_line(column, vertical) for column in expected.T]).T
    np.testing.assert_allclose(gaussian_blur(image, (vertical, horizontal)), expected, atol=1e-12)
    tensor = gaussian_blur(torch.from_numpy(image), (vertical, horizontal))
    np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(130, 70, 3), (64, 65, 3), (1, 200, 3)])
def test_blur_of_pictures_longer_than_a_block(shape):
    image = np.random.default_rng(0).random(shape)
    expected = np.apply_along_axis(blur_line, 0, np.apply_along_axis(blur_line, 1, image, 2.0), 2.0)
    np.testing.assert_allclose(gaussian_blur(image, 2.0), expected, atol=1e-12)
    bytes_ = np.floor(image * 255 + 0.5).astype(np.uint8)
    result = gaussian_blur(bytes_, 2.0).astype(float)
    exact = np.apply_along_axis(blur_line, 0, np.apply_along_axis(blur_line, 1, bytes_ * 1.0, 2.0), 2.0)
    assert np.abs(result - exact).max() <= 0.5 + 1e-3


def test_blur_agrees_with_opencv():
    cv2 = pytest.importorskip("cv2")
    image = np.random.default_rng(1).random((50, 61)).astype(np.float32)
    for sigma in (0.8, 3.0):
        side = 2 * int(4 * sigma + 0.5) + 1
        expected = cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(gaussian_blur(image, sigma), expected, atol=1e-6)


@given(random_images(), SEEDS)
def test_all_kinds_give_the_same_bytes(image, seed):
    sigma = 0.3 + seed % 5
    result = gaussian_blur(image, sigma)
    if image.ndim == 2 or image.shape[2] > 1:
        assert np.array_equal(np.asarray(gaussian_blur(Image.fromarray(image), sigma)), result)
    tensor = torch.from_numpy(image if image.ndim == 2 else image.transpose(2, 0, 1).copy())
    other = gaussian_blur(tensor, sigma).numpy()
    assert np.array_equal(other if image.ndim == 2 else other.transpose(1, 2, 0), result)


def test_sigma_zero_and_constants_change_nothing():
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    assert np.array_equal(gaussian_blur(image, 0), image)
    flat = np.full((9, 11), 77, np.uint8)
    assert np.array_equal(gaussian_blur(flat, 3), flat)
    assert np.array_equal(gaussian_blur(flat.astype(np.uint16) * 257, 3), flat.astype(np.uint16) * 257)


@pytest.mark.fault("python-pillow/Pillow#3494")
@pytest.mark.fault("libvips/libvips#1301")
@pytest.mark.parametrize("operation", ["blur", "resize"])
def test_no_dark_fringe_around_cut_outs(operation):
    image = np.zeros((16, 16, 4), np.uint8)
    image[4:12, 4:12] = (200, 100, 50, 255)
    result = gaussian_blur(image, 1.5) if operation == "blur" else resize(image, (7, 7))
    seen = result[..., 3] > 10
    assert seen.sum() > 8
    assert np.abs(result[seen][:, :3].astype(int) - [200, 100, 50]).max() <= 1
    floats = torch.from_numpy(image.transpose(2, 0, 1) / 255.0)
    soft = gaussian_blur(floats, 1.5) if operation == "blur" else resize(floats, (7, 7))
    assert (soft[0][soft[3] > 0.05] - 200 / 255).abs().max() < 1e-9


def test_opaque_alpha_changes_nothing():
    image = np.random.default_rng(0).random((9, 8, 4))
    image[..., 3] = 1
    np.testing.assert_allclose(gaussian_blur(image, 1.2)[..., :3], gaussian_blur(image[..., :3], 1.2), atol=1e-12)
    np.testing.assert_allclose(resize(image, (5, 11))[..., :3], resize(image[..., :3], (5, 11)), atol=1e-12)


@given(random_images(dtype=np.float64, channels=3), st.integers(1, 9), st.integers(1, 9))
def test_resize_without_alpha_is_that_of_geometry(image, height, width):
    for mode in ("bilinear", "bicubic", "nearest"):
        expected = geometry.resize(image, (height, width), mode=mode)
        np.testing.assert_allclose(resize(image, (height, width), mode=mode), expected, atol=1e-12)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    assert torch.allclose(resize(tensor, (height, width)), geometry.resize(tensor, (height, width)))
    picture = Image.fromarray((image * 255).astype(np.uint8))
    assert resize(picture, (height, width)).size == (width, height)


def test_resize_of_pictures_with_alpha_in_every_kind():
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 4), dtype=np.uint8)
    result = resize(image, (5, 6))
    picture = resize(Image.fromarray(image), (5, 6))
    assert (picture.mode, picture.size) == ("RGBA", (6, 5))
    assert np.array_equal(np.asarray(picture), result)
    batch = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    assert np.array_equal(resize(batch, (5, 6))[0].numpy().transpose(1, 2, 0), result)


def test_filters_are_differentiable():
    image = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.8 + 0.1
    image.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gaussian_blur(x, 1.0), (image,))
    assert torch.autograd.gradcheck(lambda x: resize(x, (3, 4)), (image,))
    assert torch.autograd.gradcheck(lambda x: feather(x[:1], 2.0), (image,))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (0, 5), (3, 0)])
def test_small_and_empty_pictures(shape):
    for image in (np.full(shape, 9, np.uint8), torch.full(shape, 0.25)):
        result = gaussian_blur(image, 3.0)
        assert result.shape == shape
        assert np.allclose(np.asarray(result), np.asarray(image), atol=1e-6)
        assert feather(image, 2.0).shape == shape


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint16, np.int16, np.uint8, bool])
def test_dtypes_are_kept(dtype):
    image = np.ones((4, 5), dtype)
    assert gaussian_blur(image, 1.0).dtype == dtype
    np.testing.assert_allclose(gaussian_blur(image, 1.0).astype(float), 1, atol=1e-6)


def test_inputs_are_not_written():
    image = np.random.default_rng(0).random((5, 6, 4))
    image.flags.writeable = False
    for result in (gaussian_blur(image, 1.0), gaussian_blur(image, 0.0), resize(image, (5, 6))):
        assert not np.shares_memory(result, image)
        assert result.flags.writeable
    assert np.array_equal(gaussian_blur(image[::-1], 1.0)[::-1].round(9), gaussian_blur(image, 1.0).round(9))


# feather


def edge():
    mask = np.zeros((9, 41), np.uint8)
    mask[:, 20:] = 255
    return mask


def test_a_feathered_edge_is_half_at_the_edge_and_reaches_as_far_as_said():
    soft = feather(edge(), 8.0)[4].astype(int)
    assert soft[19] + soft[20] == 255
    assert (np.diff(soft) >= 0).all()
    assert 2 <= soft[12] <= 20
    assert soft[3] == 0


def test_inside_never_grows_the_mask():
    mask = edge()
    soft = feather(mask, 8.0, inside=True)
    assert (soft[mask == 0] == 0).all()
    assert 0 < soft[4, 20] < soft[4, 21] < 90
    assert soft[4, 34] >= 250


def test_kinds_of_masks():
    mask = edge() > 0
    result = feather(mask, 4.0)
    assert result.dtype == np.float32
    assert feather(torch.from_numpy(mask), 4.0).dtype == torch.float32
    assert feather(Image.fromarray(mask), 4.0).mode == "L"
    assert np.abs(np.asarray(feather(Image.fromarray(mask), 4.0)) / 255 - result).max() < 0.003
    assert np.array_equal(feather(edge(), 0), edge())


def test_a_feathered_mask_blends():
    result = composite(np.full((9, 41), 200, np.uint8), np.full((9, 41), 100, np.uint8), mask=feather(edge(), 6))
    assert (result[:, 0] == 100).all()
    assert (result[:, -1] == 200).all()
    assert (np.diff(result[4].astype(int)) >= 0).all()


def test_wrong_arguments_are_refused():
    image = np.zeros((3, 4, 3))
    with pytest.raises(ValueError, match="`sigma` must lie in"):
        gaussian_blur(image, -1)
    with pytest.raises(ValueError, match=r"`sigma` must be one number or two"):
        gaussian_blur(image, (1, 2, 3))
    with pytest.raises(ValueError, match="`truncate`"):
        gaussian_blur(image, 1, truncate=0)
    with pytest.raises(ValueError, match="`mode` must be one of"):
        resize(image, (2, 2), mode="lanczos")
    with pytest.raises(ValueError, match="`size"):
        resize(image, (0, 2))
    with pytest.raises(ValueError, match="at least one pixel"):
        resize(np.zeros((0, 4, 4)), (2, 2))
    with pytest.raises(ValueError, match="`mask` must have one channel"):
        feather(image, 1)
    with pytest.raises(ValueError, match="`radius`"):
        feather(image[..., 0], -1)


def test_feather_refuses_a_radius_beyond_any_picture():
    with pytest.raises(ValueError, match=r"`radius` must lie in \[0, 20000\]; got 1e\+09"):
        feather(np.zeros((3, 3), np.uint8), 1e9)
