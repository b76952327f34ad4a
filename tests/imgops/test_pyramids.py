from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit.imgops import collapse_pyramid, laplacian_pyramid, pyramid_blend
from cvkit.imgops.pyramids import doubled, halved
from reference.imgops_smoothing import down_line, up_line
from reference.imgops_smoothing import pyramid_blend as slow_blend
from strategies import SEEDS, random_images


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 31, 63, 64, 65, 66, 129, 200])
def test_steps_down_and_up_are_the_five_taps(length):
    line = np.random.default_rng(length).random(length)
    down = down_line(line)
    np.testing.assert_allclose(halved(line[None])[0], down, atol=1e-12)
    np.testing.assert_allclose(halved(line[:, None])[:, 0], down, atol=1e-12)
    up = up_line(down, length)
    np.testing.assert_allclose(doubled(down[None], (1, length))[0], up, atol=1e-12)
    np.testing.assert_allclose(doubled(down[:, None], (length, 1))[:, 0], up, atol=1e-12)


@pytest.mark.fault("opencv/opencv#19968")
@pytest.mark.parametrize("size", [(5, 8), (63, 130), (1, 9), (2, 2), (200, 301)])
def test_steps_agree_with_opencv(size):
    cv2 = pytest.importorskip("cv2")
    plane = np.random.default_rng(0).random(size).astype(np.float32)
    small = cv2.pyrDown(plane)
    np.testing.assert_allclose(halved(plane), small, atol=1e-6)
    np.testing.assert_allclose(doubled(small, size), cv2.pyrUp(small, dstsize=size[::-1]), atol=1e-6)


@pytest.mark.fault("scikit-image/scikit-image#8007")
@pytest.mark.fault("kornia/kornia#3971")
@given(st.integers(1, 33), st.integers(1, 33), st.integers(0, 7), SEEDS)
def test_bands_of_odd_sizes_rebuild_the_picture(height, width, levels, seed):
    planes = np.random.default_rng(seed).random((2, height, width))
    bands = laplacian_pyramid(planes, levels)
    assert len(bands) == levels + 1
    np.testing.assert_allclose(collapse_pyramid(bands), planes, atol=1e-12)
    tensors = laplacian_pyramid(torch.from_numpy(planes), levels)
    for one, other in zip(bands, tensors, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-12)
    np.testing.assert_allclose(collapse_pyramid(tensors).numpy(), planes, atol=1e-12)


def test_bands_of_a_flat_picture_are_empty():
    bands = laplacian_pyramid(np.full((9, 12), 0.4), 2)
    assert np.abs(bands[0]).max() < 1e-15
    np.testing.assert_allclose(bands[2], 0.4)


@given(SEEDS, st.integers(1, 14), st.integers(1, 14), st.integers(0, 4))
def test_blend_is_the_recipe_with_two_pyramids(seed, height, width, levels):
    rng = np.random.default_rng(seed)
    a, b, mask = rng.random((3, height, width))
    expected = slow_blend(a, b, mask, levels)
    np.testing.assert_allclose(pyramid_blend(a, b, mask, levels=levels), expected, atol=1e-12)
    tensors = [torch.from_numpy(x) for x in (a, b, mask)]
    np.testing.assert_allclose(pyramid_blend(*tensors, levels=levels).numpy(), expected, atol=1e-12)
    bytes_ = [np.floor(x * 255 + 0.5).astype(np.uint8) for x in (a, b, mask)]
    expected = np.clip(slow_blend(bytes_[0] * 1.0, bytes_[1] * 1.0, bytes_[2] / 255, levels), 0, 255)
    assert np.abs(pyramid_blend(*bytes_, levels=levels) - expected).max() <= 0.5 + 1e-3


@given(random_images(), SEEDS)
def test_a_mask_of_one_value_returns_one_picture(image, seed):
    other = np.random.default_rng(seed).integers(0, 256, image.shape, dtype=np.uint8)
    if image.ndim == 3 and image.shape[2] in {2, 4}:
        image[..., -1] = other[..., -1] = 255
    ones = np.ones(image.shape[:2], bool)
    assert np.array_equal(pyramid_blend(image, other, ones), image)
    assert np.array_equal(pyramid_blend(image, other, ~ones), other)


def test_all_kinds_give_the_same_bytes():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 37, 50, 4), dtype=np.uint8)
    mask = rng.random((37, 50)) < 0.5
    result = pyramid_blend(first, second, mask)
    pictures = pyramid_blend(Image.fromarray(first), Image.fromarray(second), Image.fromarray(mask))
    assert np.array_equal(np.asarray(pictures), result)
    tensors = [torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in (first, second)]
    assert np.array_equal(pyramid_blend(*tensors, mask).numpy().transpose(1, 2, 0), result)
    batch = pyramid_blend(torch.stack(tensors), torch.stack(tensors[::-1]), np.stack([mask, ~mask]))
    assert torch.equal(batch[0], batch[1])


@pytest.mark.fault("python-pillow/Pillow#8245")
def test_transparent_colours_do_not_bleed():
    first, second = np.zeros((2, 32, 32, 4), np.uint8)
    first[...] = (200, 100, 50, 255)
    second[...] = (0, 255, 0, 0)
    result = pyramid_blend(first, second, np.arange(32)[None].repeat(32, 0) < 16)
    seen = result[..., 3] > 20
    assert np.abs(result[seen][:, :3].astype(int) - [200, 100, 50]).max() <= 2


def test_blend_is_differentiable():
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(2, 1, 6, 9, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]
    mask = (torch.rand(6, 9, generator=generator, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b, m: pyramid_blend(a, b, m, levels=2), (*images, mask))
    assert torch.autograd.gradcheck(lambda image: tuple(laplacian_pyramid(image, 2)), images[0])
    bands = tuple(band.detach().requires_grad_() for band in laplacian_pyramid(images[1], 2))
    assert torch.autograd.gradcheck(lambda *bands: collapse_pyramid(bands), bands)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 1), (1, 9)])
def test_small_and_empty_pictures(shape):
    image = np.full(shape, 7, np.uint8)
    assert np.array_equal(pyramid_blend(image, image, np.ones(shape, bool)), image)
    assert pyramid_blend(torch.zeros(shape), torch.zeros(shape), np.ones(shape)).shape == shape


def test_inputs_are_not_written():
    images = np.random.default_rng(0).random((2, 9, 8))
    images.flags.writeable = False
    assert not np.shares_memory(pyramid_blend(*images, np.zeros((9, 8))), images)
    assert not np.shares_memory(laplacian_pyramid(images, 0)[0], images)


def test_wrong_arguments_are_refused():
    image = np.zeros((4, 5))
    with pytest.raises(ValueError, match="`second` must have the size of `first`"):
        pyramid_blend(image, np.zeros((5, 4)), image)
    with pytest.raises(TypeError, match="`second` must have the dtype of `first`"):
        pyramid_blend(image, image.astype(np.float32), image)
    with pytest.raises(ValueError, match="`mask` must have"):
        pyramid_blend(image, image, np.zeros((5, 4)))
    with pytest.raises(ValueError, match="`levels` must be at least 0"):
        pyramid_blend(image, image, image, levels=-1)
    with pytest.raises(TypeError, match="`image` must be a floating-point array"):
        laplacian_pyramid(np.zeros((4, 4), np.uint8), 1)
    with pytest.raises(ValueError, match="at least one pixel"):
        laplacian_pyramid(np.zeros((0, 4)), 1)
    with pytest.raises(ValueError, match="at least one band"):
        collapse_pyramid([])
    with pytest.raises(ValueError, match=r"`bands\[1\]` must have size \(2, 3\); got \(2, 2\)"):
        collapse_pyramid([image, np.zeros((2, 2))])
