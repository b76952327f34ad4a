from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given

from cvkit.imgops import histogram, joint_histogram
from strategies import SEEDS, random_images


@given(random_images(np.uint8, 3))
def test_three_channels_together(image):
    j = joint_histogram(image, bins=5)
    flat = image.reshape(-1, 3)
    edges = np.linspace(-0.5, 255.5, 6)
    expected = np.histogramdd(flat, [edges] * 3)[0]
    assert (j.counts == expected).all()
    assert j.counts.dtype == np.int64
    for c in range(3):
        assert j.marginal(c).tolist() == histogram(image, bins=5).counts[c].tolist()


@given(random_images(np.float64, 2), SEEDS)
def test_two_channels_masked_and_weighted(image, seed):
    rng = np.random.default_rng(seed)
    mask, weights = rng.random(image.shape[:2]) > 0.3, rng.random(image.shape[:2])
    j = joint_histogram(image, bins=7, alpha=False, mask=mask, weights=weights)
    expected = np.histogram2d(image[mask][:, 0], image[mask][:, 1], 7, [[0, 1], [0, 1]], weights=weights[mask])[0]
    np.testing.assert_allclose(j.counts, expected, atol=1e-12)


def test_chosen_channels_and_several_images():
    rng = np.random.default_rng(0)
    image, other = rng.integers(0, 256, (6, 7, 3)).astype(np.uint8), rng.integers(0, 256, (6, 7)).astype(np.uint8)
    pair = joint_histogram(image, bins=4, channels=[2, 0])
    assert (pair.counts == joint_histogram(image, bins=4).counts.sum(1).T).all()
    two = joint_histogram(image[..., 1], other, bins=4)
    assert (
        two.counts == np.histogram2d(image[..., 1].ravel(), other.ravel(), [np.linspace(-0.5, 255.5, 5)] * 2)[0]
    ).all()
    assert joint_histogram(image, other, bins=2).counts.shape == (2, 2, 2, 2)


def test_batches_and_nan():
    batch = torch.rand(2, 3, 4, 5)
    batch[0, 1, 2, 3] = torch.nan
    j = joint_histogram(batch, bins=3)
    assert j.counts.shape == (2, 3, 3, 3)
    assert j.missing.tolist() == [1, 0]
    assert j.counts.sum((1, 2, 3)).tolist() == [19, 20]
    assert (j.counts[1] == joint_histogram(batch[1], bins=3).counts).all()
    assert joint_histogram(batch[:0], bins=3).counts.shape == (0, 3, 3, 3)


@given(SEEDS)
def test_information(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (9, 8, 2)).astype(np.uint8)
    j = joint_histogram(image, bins=4, alpha=False)
    p = j.density()
    known = p[p > 0]
    assert j.entropy() == pytest.approx(-(known * np.log2(known)).sum())
    px, py = p.sum(1), p.sum(0)
    outer = np.outer(px, py)
    assert j.mutual_information() == pytest.approx((known * np.log2(known / outer[p > 0])).sum(), abs=1e-9)
    same = joint_histogram(image[..., 0], image[..., 0], bins=4)
    assert same.mutual_information() == pytest.approx(same.entropy())


def test_merging():
    image = np.random.default_rng(0).integers(0, 256, (8, 5, 3)).astype(np.uint8)
    parts = joint_histogram(image[:3], bins=4) + joint_histogram(image[3:], bins=4)
    assert (parts.counts == joint_histogram(image, bins=4).counts).all()
    with pytest.raises(ValueError, match="same bins"):
        joint_histogram(image, bins=4) + joint_histogram(image, bins=5)
    with pytest.raises(TypeError):
        joint_histogram(image) + 1


def test_empty_image():
    j = joint_histogram(np.zeros((0, 4, 3), np.uint8), bins=3)
    assert j.counts.sum() == 0
    assert j.entropy() == 0
    assert (j.density() == 0).all()


def test_uneven_edges_count_values_outside_at_the_ends():
    image = np.array([[[0.1, 0.9], [-5.0, 5.0]]])
    assert joint_histogram(image, bins=[0, 0.5, 1], alpha=False).counts.tolist() == [[0, 2], [0, 0]]


def test_errors():
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match="2\\^24"):
        joint_histogram(image, bins=300)
    with pytest.raises(ValueError, match="at most 4 channels"):
        joint_histogram(image, image, bins=2)
    with pytest.raises(ValueError, match="size"):
        joint_histogram(image, image[:2])
    with pytest.raises(ValueError, match="range"):
        joint_histogram(image, image / 2.0)
    with pytest.raises(ValueError, match="channels"):
        joint_histogram(image, channels=[3])
    with pytest.raises(ValueError, match="channel"):
        joint_histogram(image).marginal(3)
    for value in (1, 0.5):
        with pytest.raises(ValueError, match="base"):
            joint_histogram(image).entropy(value)
