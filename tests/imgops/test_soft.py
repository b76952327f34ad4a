from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.imgops import equalize, histogram, match_histograms, soft_equalize, soft_histogram, soft_match
from strategies import SEEDS


def image_of(seed, shape=(3, 5, 7), low=0.0, high=1.0):
    return low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.fault("kornia/kornia#790")
@given(SEEDS, st.integers(2, 40))
def test_votes_sum_to_the_number_of_pixels(seed, bins):
    image = image_of(seed, low=-0.2, high=1.2)
    counts = soft_histogram(image, bins=bins)
    assert counts.shape == (3, bins)
    assert (counts >= 0).all()
    torch.testing.assert_close(counts.sum(1), torch.full((3,), 35.0, dtype=torch.float64))


@given(SEEDS, st.integers(2, 20))
def test_against_a_slow_triangle_vote(seed, bins):
    image = image_of(seed, (4, 5))
    centers = (np.arange(bins) + 0.5) / bins
    expected = np.zeros(bins)
    for v in image.flatten().tolist():
        v = min(max(v, centers[0]), centers[-1])
        expected += np.clip(1 - np.abs(v - centers) * bins, 0, 1)
    np.testing.assert_allclose(soft_histogram(image, bins=bins)[0].numpy(), expected, atol=1e-9)


def test_values_at_centres_are_counted_hard():
    image = (torch.arange(12, dtype=torch.float64).reshape(3, 4) % 8 + 0.5) / 8
    assert (soft_histogram(image, bins=8).numpy() == histogram(image, bins=8).counts).all()


def test_masks_weights_ranges_nan_and_batches():
    image = image_of(1, (2, 3, 4, 5))
    mask = torch.rand(2, 4, 5) > 0.5
    counts = soft_histogram(image, bins=6, mask=mask)
    torch.testing.assert_close(counts.sum(2), mask.sum((1, 2))[:, None].expand(2, 3).double())
    torch.testing.assert_close(counts[1], soft_histogram(image[1], bins=6, mask=mask[1]))
    weights = torch.rand(4, 5, dtype=torch.float64, requires_grad=True)
    weighted = soft_histogram(image, bins=6, weights=weights)
    torch.testing.assert_close(weighted.sum(2), weights.sum().expand(2, 3))
    assert torch.autograd.grad(weighted.sum(), weights)[0].eq(6).all()
    both = soft_histogram(image, bins=6, weights=np.full((4, 5), 51, np.uint8), mask=mask)
    torch.testing.assert_close(both, counts / 5)
    torch.testing.assert_close(
        soft_histogram(image * 40 - 20, bins=6, data_range=(-20, 20)), soft_histogram(image, bins=6)
    )
    spoilt = image[0].clone()
    spoilt[1, 2, 3] = torch.nan
    assert soft_histogram(spoilt, bins=6).sum(1).tolist() == pytest.approx([20, 19, 20])
    assert soft_histogram(image[:0], bins=3).shape == (0, 3, 3)
    assert soft_histogram(image.bfloat16()).dtype == torch.float32


def test_alpha_is_not_counted():
    assert soft_histogram(torch.rand(4, 3, 5)).shape == (3, 256)
    out = soft_equalize(torch.rand(4, 3, 5))
    assert out.shape == (4, 3, 5)


def test_memory_is_linear_in_the_pixels():
    # kornia's kernels hold pixels x bins numbers; here the saved tensors are a few numbers a pixel for any number of
    # bins.
    image = torch.rand(1, 64, 64, requires_grad=True)
    sizes = []

    def note(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        soft_histogram(image, bins=4096)
    assert sum(sizes) < 20 * 64 * 64


def kink_free(seed, bins, shape=(1, 4, 5)):
    """Values at least 1e-3 away from centres and edges of the bins."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, 2 * bins, shape) / 2 + rng.uniform(0.1, 0.4, shape)
    return torch.from_numpy(place / bins)


@pytest.mark.parametrize("seed", range(3))
def test_gradcheck(seed):
    image = kink_free(seed, 8).requires_grad_()
    reference = kink_free(seed + 9, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: soft_histogram(x, bins=8), image)
    assert torch.autograd.gradcheck(lambda x: soft_equalize(x, bins=8), image)
    assert torch.autograd.gradcheck(lambda x, y: soft_match(x, y, bins=8), (image, reference), atol=1e-4)


@given(SEEDS)
def test_close_to_the_hard_functions(seed):
    image, reference = (
        image_of(seed + k, (1, 40, 50), 0, 0.5) + image_of(seed + k + 2, (1, 40, 50), 0, 0.5) for k in (0, 1)
    )
    assert (soft_equalize(image) - equalize(image)).abs().mean() < 0.01
    assert (soft_match(image, reference) - match_histograms(image, reference)).abs().mean() < 0.01
    assert (soft_match(image, image) - image).abs().mean() < 0.005


def test_equalized_values_are_even_and_in_order():
    image = (image_of(0, (1, 50, 50)) + image_of(1, (1, 50, 50))) / 2
    out = soft_equalize(image)
    order = image.flatten().argsort()
    assert (out.flatten()[order].diff() >= -1e-12).all()
    assert histogram(out, bins=10).counts.std() < 15


def test_constant_images_and_nan():
    for value in (0.0, 0.5, 1.0):
        image = torch.full((1, 4, 5), value, dtype=torch.float64, requires_grad=True)
        for out in (soft_equalize(image), soft_match(image, torch.rand(1, 3, 3, dtype=torch.float64))):
            assert torch.isfinite(out).all()
            assert torch.isfinite(torch.autograd.grad(out.sum(), image)[0]).all()
    image = image_of(0, (1, 4, 5))
    image[0, 1, 2] = torch.nan
    for out in (soft_equalize(image), soft_match(image, image_of(1, (1, 4, 5)))):
        assert out.isnan().sum() == 1
    assert soft_equalize(torch.rand(0, 3, 4, 5)).shape == (0, 3, 4, 5)


def test_masks():
    image = image_of(0, (1, 6, 7))
    mask = torch.zeros(6, 7, dtype=torch.bool)
    mask[:3] = True
    torch.testing.assert_close(soft_equalize(image, mask=mask)[:, :3], soft_equalize(image[:, :3]))
    matched = soft_match(image, image, mask=mask, reference_mask=~mask)
    torch.testing.assert_close(matched[:, :3], soft_match(image[:, :3], image[:, 3:]))


def test_errors():
    for wrong in (np.zeros((4, 5)), torch.zeros(4, 5, dtype=torch.uint8)):
        for call in (soft_histogram, soft_equalize, lambda x: soft_match(torch.rand(4, 5), x)):
            with pytest.raises(TypeError, match="floating-point tensor"):
                call(wrong)
    with pytest.raises(ValueError, match="bins"):
        soft_histogram(torch.rand(4, 5), bins=1)
    with pytest.raises(ValueError, match="`reference`"):
        soft_match(torch.rand(3, 4, 5), torch.rand(1, 4, 5))
