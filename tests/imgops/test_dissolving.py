from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from cvkit.imgops import dissolve
from reference.imgops_compositing import half_up
from strategies import SEEDS, random_images

SHARES = st.one_of(st.floats(0, 1), st.sampled_from([k / 510 for k in range(511)]))


def as_fraction(t):
    """A share as meant: k / 510 and the like, where it differs from that by its last bits only."""
    near = Fraction(t).limit_denominator(1000)
    return near if abs(near - Fraction(t)) < Fraction(1, 10**14) else Fraction(t)


LEVELS = np.arange(256, dtype=np.uint8)


@given(SHARES)
@example(0.5)
@example(0.25)
@example(1 / 3)
def test_8_bit_results_are_exactly_rounded_for_all_pairs(t):
    first, second = np.meshgrid(LEVELS, LEVELS, indexing="ij")
    result = dissolve(first, second, t)
    steps = [half_up(as_fraction(t) * d) for d in range(-255, 256)]
    expected = first.astype(int) + np.array(steps)[second.astype(int) - first + 255]
    assert np.array_equal(result, expected)


def test_16_bit_results_are_rounded():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 65536, (2, 40, 50)).astype(np.uint16)
    result = dissolve(first, second, 0.3)
    assert np.abs(result - (first * 0.7 + second * 0.3)).max() <= 0.5 + 1e-9


@given(random_images(), SEEDS, SHARES)
def test_all_kinds_give_the_same_bytes(image, seed, t):
    other = np.random.default_rng(seed).integers(0, 256, image.shape, dtype=np.uint8)
    result = dissolve(image, other, t)
    assert result.dtype == np.uint8
    if image.ndim == 2 or image.shape[2] > 1:
        pictures = dissolve(Image.fromarray(image), Image.fromarray(other), t)
        assert np.array_equal(np.asarray(pictures), result)
    planes = [torch.from_numpy(x if x.ndim == 2 else x.transpose(2, 0, 1).copy()) for x in (image, other)]
    mixed = dissolve(*planes, t).numpy()
    assert np.array_equal(mixed if image.ndim == 2 else mixed.transpose(1, 2, 0), result)
    floats = dissolve(*(x / 255 for x in planes), t).numpy() * 255
    apart = np.abs((floats if image.ndim == 2 else floats.transpose(1, 2, 0)) - result)
    if image.ndim == 3 and image.shape[2] in {2, 4}:  # nobody sees the colour where alpha is 0, and it may underflow
        apart[..., :-1][result[..., -1] == 0] = 0
    assert apart.max() < 0.51


@given(SEEDS)
def test_the_ends_return_the_pictures_bit_for_bit(seed):
    rng = np.random.default_rng(seed)
    for a, b in (rng.integers(0, 256, (2, 4, 5, 4), dtype=np.uint8), np.float32(rng.normal(size=(2, 4, 5, 4)))):
        assert np.array_equal(dissolve(a, b, 0.0), a)
        assert np.array_equal(dissolve(a, b, 1.0), b)
        assert not np.shares_memory(dissolve(a, b, 0.0), a)
        if a.dtype == np.float32:
            one, two = torch.from_numpy(a), torch.from_numpy(b)
            assert torch.equal(dissolve(one, two, 0.0, channel_axis=-1), one)
            assert torch.equal(dissolve(one, two, 1.0, channel_axis=-1), two)


@given(SEEDS, SHARES)
def test_results_lie_between_the_pictures(seed, t):
    a, b = np.random.default_rng(seed).random((2, 3, 4, 3))
    result = dissolve(a, b, t)
    assert (result >= np.minimum(a, b)).all()
    assert (result <= np.maximum(a, b)).all()
    np.testing.assert_allclose(result, dissolve(b, a, 1 - t), atol=1e-12)


def test_colours_are_weighted_by_alpha():
    opaque = np.array([[[200, 100, 0, 255]]], np.uint8)
    clear = np.array([[[0, 0, 0, 0]]], np.uint8)
    assert dissolve(opaque, clear, 0.5).tolist() == [[[200, 100, 0, 128]]]
    assert dissolve(opaque, clear, 0.5, alpha=False).tolist() == [[[100, 50, 0, 128]]]
    assert dissolve(clear, clear + np.array([9, 9, 9, 0], np.uint8), 0.5).tolist() == [[[5, 5, 5, 0]]]


@given(SEEDS, SHARES.filter(lambda t: 0 < t < 1))
def test_translucent_bytes_are_exactly_rounded(seed, t):
    first, second = np.random.default_rng(seed).integers(0, 256, (2, 3, 4, 4), dtype=np.uint8)
    result = dissolve(first, second, t)
    share = as_fraction(t)
    for at in np.ndindex(3, 4):
        a, b = ([Fraction(int(v)) for v in x[at]] for x in (first, second))
        alpha = (1 - share) * a[3] + share * b[3]
        if alpha == 0:
            continue
        color = [((1 - share) * a[3] * x + share * b[3] * y) / alpha for x, y in zip(a[:3], b[:3], strict=True)]
        assert result[at].tolist() == [half_up(v) for v in (*color, alpha)]


def test_threads_change_nothing():
    first, second = np.random.default_rng(0).integers(0, 256, (2, 301, 200, 3), dtype=np.uint8)
    assert np.array_equal(dissolve(first, second, 0.3), dissolve(first, second, 0.3, threads=3))


def test_dissolve_is_differentiable_and_keeps_nan():
    a, b = torch.rand(2, 4, 3, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, y: dissolve(x, y, 0.3), (a.detach().requires_grad_(), b.detach().requires_grad_())
    )
    assert np.isnan(dissolve(np.array([[np.nan]]), np.array([[0.0]]), 0.5)).all()


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 1), (1, 9)])
def test_small_and_empty_pictures(shape):
    assert dissolve(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8), 0.5).shape == shape


def test_wrong_arguments_are_refused():
    image = np.zeros((3, 4), np.uint8)
    with pytest.raises(ValueError, match=r"`t` must lie in \[0, 1\]"):
        dissolve(image, image, 1.1)
    with pytest.raises(ValueError, match="`second` must have the size"):
        dissolve(image, image.T, 0.5)
    with pytest.raises(TypeError, match="`second` must have the dtype"):
        dissolve(image, image / 1.0, 0.5)
    with pytest.raises(TypeError, match="`second` must have the mode"):
        dissolve(Image.new("L", (2, 2)), Image.new("RGB", (2, 2)), 0.5)
