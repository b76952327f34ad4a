"""Adversarial losses and penalties written slowly from the papers, one image at a time, in float64."""

from __future__ import annotations

import math


def _softplus(t):
    return t + math.log1p(math.exp(-t)) if t > 0 else math.log1p(math.exp(t))


def _mean(values):
    return sum(values) / len(values)


def losses(name, real, fake):
    """Return (discriminator's, generator's) loss of lists of logits."""
    if name == "non-saturating":
        # -log sigmoid(s(x)) - log(1 - sigmoid(s(G)))
        return _mean([_softplus(-r) for r in real]) + _mean([_softplus(f) for f in fake]), _mean(
            [_softplus(-f) for f in fake]
        )
    if name == "hinge":
        return _mean([max(0.0, 1 - r) for r in real]) + _mean([max(0.0, 1 + f) for f in fake]), -_mean(fake)
    if name == "least-squares":
        return 0.5 * _mean([(r - 1) ** 2 for r in real]) + 0.5 * _mean([f**2 for f in fake]), 0.5 * _mean(
            [(f - 1) ** 2 for f in fake]
        )
    if name == "wasserstein":
        return _mean(fake) - _mean(real), -_mean(fake)
    assert name == "relativistic"
    pairs = list(zip(real, fake, strict=True))
    return _mean([_softplus(-(r - f)) for r, f in pairs]), _mean([_softplus(-(f - r)) for r, f in pairs])


def slope_by_differences(score, image, step=1e-5):
    """Return the squared norm of the gradient of `score` at one image by central differences."""
    total = 0.0
    flat = image.reshape(-1)
    for i in range(flat.numel()):
        plus, minus = flat.clone(), flat.clone()
        plus[i] += step
        minus[i] -= step
        total += ((score(plus.view_as(image)) - score(minus.view_as(image))) / (2 * step)) ** 2
    return total
