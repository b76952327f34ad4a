from __future__ import annotations

import gc
import tracemalloc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cvkit import gan
from reference.gan_losses import slope_by_differences
from strategies import SEEDS


def linear(weight):
    return lambda x: (x * weight).sum((1, 2, 3))


def smooth_network(seed=0):
    """A small network with curved activations, in float64."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 3 * 2, 4), nn.Tanh(), nn.Linear(4, 1)
    ).double()


@pytest.mark.parametrize("penalty", [gan.r1_penalty, gan.r2_penalty])
@given(SEEDS, st.integers(1, 4), st.floats(0, 20))
def test_penalty_of_a_linear_score_is_half_gamma_times_its_squared_norm(penalty, seed, count, gamma):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, 2, 3, 5, dtype=torch.float64, generator=generator)
    images = torch.randn(count, 2, 3, 5, dtype=torch.float64, generator=generator)
    got = penalty(linear(weight), images, gamma=gamma)
    torch.testing.assert_close(got, 0.5 * gamma * weight.square().sum())


def test_penalty_of_a_network_equals_differences_image_by_image():
    network = smooth_network()
    images = torch.randn(3, 2, 5, 4, dtype=torch.float64)
    expected = sum(slope_by_differences(lambda x: network(x[None]).item(), image) for image in images) / 3
    assert gan.r1_penalty(network, images, gamma=2.0).item() == pytest.approx(expected, rel=1e-6)


def test_gradient_with_respect_to_weights_is_that_of_the_second_order():
    weight = torch.randn(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    gan.r1_penalty(linear(weight), torch.zeros(4, 1, 2, 3, dtype=torch.float64), gamma=3.0).backward()
    torch.testing.assert_close(weight.grad, 3.0 * weight.detach())
    bend = torch.randn(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    images = torch.randn(4, 1, 2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda w: gan.r1_penalty(lambda x: (x * w).sin().sum((1, 2, 3)), images), (bend,))


def test_images_get_no_gradient_and_stay_as_they_were():
    images = torch.randn(2, 1, 3, 3, requires_grad=True)
    weight = torch.ones(1, 1, 3, 3, requires_grad=True)
    before = images.detach().clone()
    gan.r2_penalty(linear(weight), images).backward()
    assert images.grad is None
    assert torch.equal(images, before)
    assert weight.grad is not None


def test_penalties_work_where_gradients_are_off():
    with torch.no_grad():
        assert gan.r1_penalty(linear(torch.ones(1, 1, 2, 2)), torch.zeros(1, 1, 2, 2)).item() == 2.0


@given(SEEDS, st.floats(0, 3), st.floats(0, 20))
def test_gradient_penalty_of_a_linear_score_is_exact(seed, target, weight):
    generator = torch.Generator().manual_seed(seed)
    slope = torch.randn(1, 1, 3, 2, dtype=torch.float64, generator=generator)
    real, fake = torch.randn(2, 4, 1, 3, 2, dtype=torch.float64, generator=generator)
    got = gan.gradient_penalty(linear(slope), real, fake, weight=weight, target=target)
    torch.testing.assert_close(got, weight * (slope.norm() - target) ** 2)


def test_gradient_penalty_mixes_each_sample_by_its_own_share():
    seen = []

    def score(x):
        seen.append(x.detach().clone())
        return x.flatten(1).sum(1)

    real, fake = torch.ones(64, 1, 2, 2), torch.zeros(64, 1, 2, 2)
    gan.gradient_penalty(score, real, fake, generator=torch.Generator().manual_seed(0))
    shares = seen[0].flatten(1)
    assert torch.equal(shares.amin(1), shares.amax(1))  # one share an image, not one a pixel
    assert len(shares[:, 0].unique()) == 64  # and not one a batch


def test_gradient_penalty_of_a_flat_score_is_finite_with_finite_gradients():
    weight = torch.zeros(1, 1, 2, 2, requires_grad=True)
    penalty = gan.gradient_penalty(linear(weight), torch.ones(3, 1, 2, 2), torch.zeros(3, 1, 2, 2))
    penalty.backward()
    assert penalty.item() == 10.0
    assert torch.isfinite(weight.grad).all()


def test_gradient_penalty_repeats_itself_and_advances_a_generator():
    network = smooth_network()
    real, fake = torch.randn(2, 3, 2, 5, 4, dtype=torch.float64)
    first = gan.gradient_penalty(network, real, fake)
    assert torch.equal(first, gan.gradient_penalty(network, real, fake))
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(first, gan.gradient_penalty(network, real, fake, generator=generator))
    assert not torch.equal(first, gan.gradient_penalty(network, real, fake, generator=generator))


def test_smoothness_tends_to_r1():
    network = smooth_network()
    images = torch.randn(1, 2, 5, 4, dtype=torch.float64).expand(40_000, -1, -1, -1)
    exact = gan.r1_penalty(network, images[:1]).item()
    got = gan.smoothness_penalty(network, images, sigma=1e-3, generator=torch.Generator().manual_seed(1)).item()
    assert got == pytest.approx(exact, rel=0.03)


def test_smoothness_needs_no_second_derivative():
    weight = torch.ones(1, 1, 2, 2, requires_grad=True)

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient

    score = lambda x: Once.apply(x * weight).sum((1, 2, 3))  # noqa: E731
    gan.smoothness_penalty(score, torch.zeros(2, 1, 2, 2)).backward()
    assert torch.isfinite(weight.grad).all()


def test_low_precision_logits_give_a_full_precision_penalty():
    got = gan.r1_penalty(lambda x: (3 * x).to(torch.bfloat16).sum((1, 2, 3)), torch.zeros(2, 1, 2, 2))
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(18.0, rel=0.01)
    half = gan.r1_penalty(lambda x: (3 * x).sum((1, 2, 3)), torch.zeros(2, 1, 2, 2, dtype=torch.bfloat16))
    assert half.dtype == torch.float32


def test_column_of_logits_is_taken_and_other_shapes_are_refused():
    images = torch.zeros(3, 1, 2, 2)
    assert gan.r1_penalty(lambda x: x.flatten(1).sum(1, keepdim=True), images).item() == 2.0
    with pytest.raises(ValueError, match=r"`score` must give one logit an image, shape \(3,\); got \(3, 4\)"):
        gan.r1_penalty(lambda x: x.flatten(1), images)


def test_bad_images_are_refused():
    score = linear(torch.ones(1, 1, 2, 2))
    with pytest.raises(ValueError, match="`images` must be floating images"):
        gan.r1_penalty(score, torch.zeros(2, 1, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match="batch axis of at least 1"):
        gan.r1_penalty(score, torch.zeros(0, 1, 2, 2))
    with pytest.raises(ValueError, match="`real` and `fake` must have one shape"):
        gan.gradient_penalty(score, torch.zeros(2, 1, 2, 2), torch.zeros(3, 1, 2, 2))
    with pytest.raises(ValueError, match="`gamma` must lie in"):
        gan.r1_penalty(score, torch.zeros(2, 1, 2, 2), gamma=-1.0)
    with pytest.raises(ValueError, match="`sigma` must lie in"):
        gan.smoothness_penalty(score, torch.zeros(2, 1, 2, 2), sigma=0.0)


@pytest.mark.fault("caogang/wgan-gp#21")
def test_memory_stays_flat_over_many_penalties():
    network = smooth_network()
    real, fake = torch.randn(2, 3, 2, 5, 4, dtype=torch.float64)

    def count():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    def once():
        network.zero_grad(set_to_none=True)
        (gan.r1_penalty(network, real) + gan.gradient_penalty(network, real, fake)).backward()

    once()
    before = count()
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            once()
        grown = tracemalloc.get_traced_memory()[0] - start
    finally:
        tracemalloc.stop()
    assert count() == before
    assert grown < 100_000
