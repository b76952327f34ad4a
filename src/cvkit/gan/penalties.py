"""Penalties on the slope of a discriminator, exact to the second order.

Each takes `score`, a function from images to logits that closes over labels: ``lambda x: discriminator(x, labels)``.
Samples must not interact inside it (no batch norm, no minibatch statistics): then the gradient of the *sum* of the
logits is the gradient of each sample's logit. Squares are summed over channels and pixels and averaged over the batch.

Where images are augmented, penalise the input of the augmentation: ``lambda x: discriminator(augment(x), labels)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cvkit._checks import check_instance, check_interval, shown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["gradient_penalty", "r1_penalty", "r2_penalty", "smoothness_penalty"]


def r1_penalty(
    score: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, *, gamma: float = 1.0
) -> torch.Tensor:
    r"""Return the zero-centred gradient penalty on real images.

    .. math:: R_1 = \frac{\gamma}{2}\,E_x \lVert \nabla_x s(x) \rVert^2

    A penalty that is computed every k-th step only has to be multiplied by k.

    Parameters
    ----------
    score : callable
        From images to logits of shape (N,) or (N, 1).
    images : Tensor of shape (N, C, H, W)
        Real images. They are detached; the graph starts here.
    gamma : float, default 1.0
        Strength, at least 0. Sensible values grow with the number of pixels.

    Returns
    -------
    Tensor
        Of shape (), at least 0, with a graph to the parameters of `score`.

    Raises
    ------
    ValueError
        If `score` doesn't give one logit an image.

    References
    ----------
    Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, arXiv:1801.04406, Eq. (9).

    Examples
    --------
    >>> import torch
    >>> weight = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2)
    >>> r1_penalty(lambda x: (x * weight).sum((1, 2, 3)), torch.zeros(5, 1, 1, 2), gamma=2.0).item()
    25.0
    """
    gamma = check_interval("gamma", gamma, 0.0)
    return 0.5 * gamma * _squared_slope(score, _leaf("images", images)).mean()


def r2_penalty(
    score: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, *, gamma: float = 1.0
) -> torch.Tensor:
    r"""Return the zero-centred gradient penalty on generated images.

    .. math:: R_2 = \frac{\gamma}{2}\,E_z \lVert \nabla_x s(G(z)) \rVert^2

    Parameters
    ----------
    score : callable
        From images to logits of shape (N,) or (N, 1).
    images : Tensor of shape (N, C, H, W)
        Generated images. They are detached: the penalty is the discriminator's alone.
    gamma : float, default 1.0
        Strength, at least 0.

    Returns
    -------
    Tensor
        Of shape (), at least 0, with a graph to the parameters of `score`.

    Raises
    ------
    ValueError
        If `score` doesn't give one logit an image.

    References
    ----------
    Mescheder et al., 2018, arXiv:1801.04406, Eq. (10).

    Examples
    --------
    >>> import torch
    >>> r2_penalty(lambda x: 2.0 * x.flatten(1).sum(1), torch.ones(2, 1, 1, 3)).item()
    6.0
    """
    return r1_penalty(score, images, gamma=gamma)


def gradient_penalty(
    score: Callable[[torch.Tensor], torch.Tensor],
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    weight: float = 10.0,
    target: float = 1.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    r"""Return the gradient penalty of WGAN-GP on random mixtures of real and generated images.

    .. math::

        \lambda\,E\bigl(\lVert \nabla s(\hat x) \rVert - t\bigr)^2, \qquad \hat x = a x + (1 - a) G(z)

    One uniform `a` in [0, 1) is drawn a *sample*. Real and generated image of a pair should carry the same label.

    Parameters
    ----------
    score : callable
        From images to scores of shape (N,) or (N, 1).
    real, fake : Tensor of shape (N, C, H, W)
        Images of one shape. Both are detached.
    weight : float, default 10.0
        :math:`\lambda`, at least 0.
    target : float, default 1.0
        :math:`t`, the slope that is aimed at, at least 0.
    generator : torch.Generator or None, default None
        For `a`; None means a new one with seed 0.

    Returns
    -------
    Tensor
        Of shape (), at least 0, with a graph to the parameters of `score`.

    Raises
    ------
    ValueError
        If the shapes differ, or if `score` doesn't give one score an image.

    References
    ----------
    Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, arXiv:1704.00028, Eq. (3).

    Examples
    --------
    >>> import torch
    >>> images = torch.zeros(4, 1, 2, 2)
    >>> gradient_penalty(lambda x: x.flatten(1).sum(1), images, images).item()
    10.0
    """
    weight = check_interval("weight", weight, 0.0)
    target = check_interval("target", target, 0.0)
    real, fake = _leaf("real", real), _leaf("fake", fake)
    if real.shape != fake.shape:
        raise ValueError(f"`real` and `fake` must have one shape; got {tuple(real.shape)} and {tuple(fake.shape)}")
    if generator is None:
        generator = torch.Generator(device=real.device).manual_seed(0)
    shape = (len(real), *[1] * (real.ndim - 1))
    share = torch.rand(shape, generator=generator, device=generator.device, dtype=real.dtype).to(real.device)
    mixed = torch.lerp(fake.detach(), real.detach(), share).requires_grad_(True)
    squared = _squared_slope(score, mixed)
    # The square root has no slope at 0; a flat discriminator must not turn the whole step into NaN.
    norm = torch.where(squared > 0, squared, 1.0).sqrt() * (squared > 0)
    return weight * (norm - target).square().mean()


def smoothness_penalty(
    score: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    *,
    gamma: float = 1.0,
    sigma: float = 0.01,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    r"""Return a first-order stand-in for `r1_penalty`: how much logits move under small noise.

    .. math:: \frac{\gamma}{2\sigma^2}\,E\bigl(s(x + \sigma n) - s(x)\bigr)^2, \qquad n \sim N(0, I)

    Its expectation tends to :math:`R_1` as sigma tends to 0. It needs no second derivative, so that it runs
    under ``torch.compile`` and in low precision, and costs one more forward pass.

    Parameters
    ----------
    score : callable
        From images to logits of shape (N,) or (N, 1). Called once, on ``cat([images, noisy])``: it has to accept 2N.
    images : Tensor of shape (N, C, H, W)
        Real or generated images. They are detached.
    gamma : float, default 1.0
        Strength, at least 0.
    sigma : float, default 0.01
        Standard deviation of the noise, above 0, in the range of the images.
    generator : torch.Generator or None, default None
        For the noise; None means a new one with seed 0.

    Returns
    -------
    Tensor
        Of shape (), at least 0, with a graph to the parameters of `score`.

    References
    ----------
    Lin et al., "Diffusion Adversarial Post-Training for One-Step Video Generation", 2025, arXiv:2501.08316, Eq. (5).

    Examples
    --------
    >>> import torch
    >>> images = torch.zeros(20_000, 1, 1, 2)
    >>> weight = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2)
    >>> round(smoothness_penalty(lambda x: (x * weight).sum((1, 2, 3)), images, gamma=2.0).item(), 0)
    25.0
    """
    gamma = check_interval("gamma", gamma, 0.0)
    sigma = check_interval("sigma", sigma, 0.0, low_open=True)
    plain = _leaf("images", images).detach()
    if generator is None:
        generator = torch.Generator(device=plain.device).manual_seed(0)
    noise = torch.randn(plain.shape, generator=generator, device=generator.device, dtype=plain.dtype).to(plain.device)
    before, after = _one_each(score(torch.cat([plain, plain + sigma * noise])), 2 * len(plain)).chunk(2)
    return (0.5 * gamma / sigma**2) * (after - before).square().mean()


def _leaf(name: str, images: torch.Tensor) -> torch.Tensor:
    check_instance(name, images, torch.Tensor)
    if not images.is_floating_point() or images.ndim < 2 or not len(images):
        raise ValueError(f"`{name}` must be floating images with a batch axis of at least 1; got {shown(images)}")
    return images.detach().requires_grad_(True)


def _one_each(logits: torch.Tensor, count: int) -> torch.Tensor:
    if logits.shape not in {(count,), (count, 1)}:
        raise ValueError(f"`score` must give one logit an image, shape ({count},); got {tuple(logits.shape)}")
    return logits.reshape(count).float() if logits.dtype in {torch.float16, torch.bfloat16} else logits.reshape(count)


def _squared_slope(score: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Return the squared norm of the gradient of each image's logit, shape (N,)."""
    with torch.enable_grad():
        logits = _one_each(score(images), len(images))
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    if gradient.dtype in {torch.float16, torch.bfloat16}:
        gradient = gradient.float()
    return gradient.square().flatten(1).sum(1)
