from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.gan import ClassProjection, ConditionalBatchNorm2d
from strategies import SEEDS


@given(SEEDS, st.integers(2, 5), st.integers(1, 4), st.integers(1, 5))
def test_conditional_batch_norm_is_its_formula(seed, count, channels, classes):
    generator = torch.Generator().manual_seed(seed)
    norm = ConditionalBatchNorm2d(channels, classes).double()
    with torch.no_grad():
        norm.gain.normal_(generator=generator)
        norm.shift.normal_(generator=generator)
    features = torch.randn(count, channels, 3, 4, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator)
    got = norm(features, labels)
    for i, label in enumerate(labels.tolist()):
        for c in range(channels):
            plane = features[:, c]
            normal = (features[i, c] - plane.mean()) / torch.sqrt(plane.var(correction=0) + 1e-5)
            expected = (1 + norm.gain[label, c]) * normal + norm.shift[label, c]
            torch.testing.assert_close(got[i, c], expected)


def test_every_class_starts_with_gain_one_and_shift_zero():
    norm = ConditionalBatchNorm2d(3, 4)
    features = torch.randn(6, 3, 5, 5)
    plain = torch.nn.BatchNorm2d(3, affine=False)(features)
    for label in range(4):
        torch.testing.assert_close(norm(features, torch.full((6,), label)), plain)


@pytest.mark.fault("eriklindernoren/PyTorch-GAN#116")
def test_eps_and_momentum_are_what_they_are_called():
    norm = ConditionalBatchNorm2d(3, 4, eps=1e-3, momentum=0.2)
    assert (norm.norm.eps, norm.norm.momentum) == (1e-3, 0.2)
    assert ConditionalBatchNorm2d(3, 4).norm.eps == 1e-5


def test_samples_do_not_interact_in_eval_mode():
    norm = ConditionalBatchNorm2d(2, 3).eval()
    features, labels = torch.randn(4, 2, 3, 3), torch.tensor([0, 1, 2, 1])
    torch.testing.assert_close(norm(features, labels)[1:2], norm(features[1:2], labels[1:2]))


@pytest.mark.fault("autonomousvision/graf#8")
def test_the_label_changes_what_comes_out():
    norm, head = ConditionalBatchNorm2d(2, 2), ClassProjection(5, 2)
    with torch.no_grad():
        norm.gain[1] += 1.0
    features = torch.randn(3, 2, 4, 4)
    zero, one = torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64)
    assert not torch.equal(norm(features, zero), norm(features, one))
    assert not torch.equal(head(features.flatten(1)[:, :5], zero), head(features.flatten(1)[:, :5], one))


def test_only_the_classes_of_the_batch_get_a_gradient():
    norm, head = ConditionalBatchNorm2d(2, 3), ClassProjection(4, 3)
    labels = torch.tensor([2, 0])
    (norm(torch.randn(2, 2, 3, 3), labels).square().sum() + head(torch.randn(2, 4), labels).sum()).backward()
    for weight in (norm.shift, head.embedding.weight):
        assert (weight.grad.abs().sum(1) > 0).tolist() == [True, False, True]


def test_projection_is_its_formula_also_for_one_sample():
    head = ClassProjection(4, 3).double()
    features, labels = torch.randn(1, 4, dtype=torch.float64), torch.tensor([2])
    got = head(features, labels)
    expected = features[0] @ head.linear.weight[0] + head.linear.bias[0] + features[0] @ head.embedding.weight[2]
    assert got.shape == (1,)
    torch.testing.assert_close(got[0], expected)


def test_projection_starts_small():
    torch.manual_seed(0)
    assert ClassProjection(400, 50).embedding.weight.std().item() == pytest.approx(1 / 20, rel=0.05)


def test_gradients_agree_with_differences():
    norm = ConditionalBatchNorm2d(2, 2).double()
    labels = torch.tensor([0, 1, 1])
    features = torch.randn(3, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    gain = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)

    def call(features, gain):
        return torch.func.functional_call(norm, {"gain": gain}, (features, labels))

    assert torch.autograd.gradcheck(call, (features, gain))


@pytest.mark.parametrize("make", [ConditionalBatchNorm2d, ClassProjection])
def test_sizes_are_checked(make):
    with pytest.raises(ValueError, match="must be at least 1; got 0"):
        make(0, 2)
    with pytest.raises(ValueError, match="`classes` must be at least 1; got 0"):
        make(2, 0)
