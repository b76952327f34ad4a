from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit import gan
from cvkit.gan.latents import slerp
from strategies import SEEDS


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@given(SEEDS, st.floats(0.05, 4.0))
def test_truncated_latents_lie_inside_and_are_distributed_as_cut(seed, limit):
    drawn = gan.truncated_normal((4000,), limit, generator=generator(seed))
    assert drawn.dtype == torch.float32
    assert drawn.abs().max() <= limit
    # Variance of the normal distribution cut off at +-limit.
    density = math.exp(-0.5 * limit**2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * limit * density / math.erf(limit / math.sqrt(2))
    assert drawn.double().square().mean().item() == pytest.approx(variance, rel=0.15)
    assert abs(drawn.double().mean().item()) < 0.1 * limit


@given(SEEDS, st.floats(0.0, 1.0))
def test_slerp_keeps_to_the_great_circle(seed, share):
    start, end = torch.randn(2, 5, dtype=torch.float64, generator=generator(seed))
    start, end = start / start.norm(), end / end.norm()
    angle = torch.arccos(start @ end)
    point = slerp(start, end, torch.tensor([share], dtype=torch.float64))
    torch.testing.assert_close(point.norm(), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(torch.arccos((point @ start).clamp(-1, 1)), share * angle, atol=1e-6, rtol=1e-6)


def test_a_walk_between_nearly_equal_latents_is_finite():
    ends = torch.randn(1, 1, 6)
    share = torch.linspace(0, 1, 4)[None, :, None]
    for other in (ends, -ends, torch.zeros_like(ends)):
        assert torch.isfinite(slerp(ends, other, share)).all()
    torch.testing.assert_close(slerp(ends, ends, share), ends.expand(1, 4, 6))
