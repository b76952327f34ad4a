"""Maps as losses: for every method with a graph, the derivative of the raw map is that of finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cvkit.explain import METHODS, explain
from reference.explain_models import images, seeded

NAMES = [name for name, method in METHODS.items() if method.traits.differentiable and name != "cam"]


class Smooth(nn.Module):
    """A network without kinks whose score is not linear in any layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Tanh())
        self.second = nn.Sequential(nn.Conv2d(5, 6, 3, stride=2, padding=1), nn.Softplus())
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.second(self.first(x)).mean((2, 3))).sin()


@pytest.mark.parametrize("method", NAMES)
def test_the_derivative_of_a_map_is_that_of_finite_differences(method):
    model, x = seeded(Smooth()).double(), images(rows=2, size=(7, 9)).double()
    generator = torch.Generator().manual_seed(3)
    way = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    flat = x.flatten(1)
    for extreme in (flat.argmax(1, keepdim=True), flat.argmin(1, keepdim=True)):
        way.flatten(1).scatter_(1, extreme, 0.0)  # noise is measured by the range, and held fixed

    def loss(inputs):
        raw = explain(model, inputs, method=method, target=1, differentiable=True).raw
        maps = raw if isinstance(raw, tuple) else (raw,)
        return sum((one.square() + one * torch.linspace(0, 1, one.numel()).view_as(one)).sum() for one in maps)

    at = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(at), at)
    step = 1e-5
    numeric = (loss(x + step * way) - loss(x - step * way)) / (2 * step)
    torch.testing.assert_close((gradient * way).sum(), numeric.detach(), rtol=1e-4, atol=1e-9)
