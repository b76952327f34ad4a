from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit import gan
from reference.gan_losses import losses as slow

NAMES = list(gan.LOSSES)
LOGITS = st.lists(st.floats(-50, 50), min_size=1, max_size=6)


@given(st.sampled_from(NAMES), st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=6))
def test_losses_equal_the_formulas_of_the_papers(name, pairs):
    real, fake = zip(*pairs, strict=True)
    loss = gan.LOSSES[name]
    expected = slow(name, real, fake)
    real, fake = torch.tensor(real, dtype=torch.float64), torch.tensor(fake, dtype=torch.float64)
    assert loss.discriminator(real, fake).item() == pytest.approx(expected[0], rel=1e-12, abs=1e-12)
    assert loss.generator(real, fake).item() == pytest.approx(expected[1], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_differences(name):
    # Away from the corners of the hinge.
    real = torch.tensor([0.3, -1.7, 2.5], dtype=torch.float64, requires_grad=True)
    fake = torch.tensor([0.9, -0.4, -3.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gan.LOSSES[name].discriminator, (real, fake))
    assert torch.autograd.gradcheck(gan.LOSSES[name].generator, (real, fake))


def test_gradient_of_non_saturating_generator_is_minus_sigmoid_over_n():
    fake = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64, requires_grad=True)
    gan.non_saturating_generator_loss(fake).backward()
    torch.testing.assert_close(fake.grad, -torch.sigmoid(-fake.detach()) / 3)


@pytest.mark.parametrize("name", NAMES)
@given(fake=LOGITS, rise=st.floats(0, 10))
def test_a_better_fake_never_costs_the_generator(name, fake, rise):
    # Least squares pulls logits above 1 back: stay below.
    fake = torch.tensor(fake, dtype=torch.float64).clamp(max=1.0)
    better = (fake + rise).clamp(max=1.0)
    real = torch.zeros_like(fake)
    loss = gan.LOSSES[name].generator
    assert loss(real, better) <= loss(real, fake) + 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_finite_for_huge_logits(name):
    huge = torch.tensor([1e4, -1e4, 1e4])
    for value in (gan.LOSSES[name].discriminator(huge, -huge), gan.LOSSES[name].generator(huge, -huge)):
        assert torch.isfinite(value)


@pytest.mark.fault("eriklindernoren/PyTorch-GAN#141")
@pytest.mark.parametrize("name", ["non-saturating", "hinge", "least-squares", "relativistic"])
def test_perfect_logits_cost_nothing(name):
    # A squashing applied twice, as in softmax before cross entropy, leaves a floor here.
    perfect = {"least-squares": (1.0, 0.0)}.get(name, (60.0, -60.0))
    real, fake = torch.full((4,), perfect[0]), torch.full((4,), perfect[1])
    assert gan.LOSSES[name].discriminator(real, fake).item() < 1e-20


def test_relativistic_losses_refuse_shapes_that_would_broadcast():
    for loss in (gan.relativistic_discriminator_loss, gan.relativistic_generator_loss):
        with pytest.raises(ValueError, match=r"`real` and `fake` must have one shape; got \(4, 1\) and \(4,\)"):
            loss(torch.zeros(4, 1), torch.zeros(4))


def test_relativistic_loss_sees_only_differences():
    real, fake = torch.tensor([0.5, -2.0]), torch.tensor([1.0, 3.0])
    torch.testing.assert_close(
        gan.relativistic_discriminator_loss(real + 7, fake + 7), gan.relativistic_discriminator_loss(real, fake)
    )


def test_the_generator_gets_no_gradient_through_real_images_in_unpaired_losses():
    for name, loss in gan.LOSSES.items():
        real = torch.zeros(3, requires_grad=True)
        fake = torch.ones(3, requires_grad=True)
        loss.generator(real, fake).backward()
        assert fake.grad is not None
        assert (real.grad is not None) == loss.paired, name


@pytest.mark.parametrize("name", NAMES)
def test_bad_logits_are_refused_by_name(name):
    loss = gan.LOSSES[name]
    with pytest.raises(TypeError, match="`real` must be Tensor; got"):
        loss.discriminator([1.0], torch.zeros(1))
    with pytest.raises(TypeError, match="`fake` must hold floating logits; got Tensor of shape"):
        loss.generator(torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="must hold at least one logit"):
        loss.discriminator(torch.zeros(0), torch.zeros(0))
