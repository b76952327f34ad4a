"""Adversarial losses as pure functions of logits.

`real` and `fake` are the discriminator's logits (no sigmoid) for real and generated images. Every loss comes in two
functions, one a player, and as an entry of `LOSSES`, whose `generator` always takes ``(real, fake)``, so that a loop
need not know which loss it runs; only the relativistic loss looks at `real` there.

Means are over all elements. Shapes must agree where real and fake are subtracted: ``(N,)`` against ``(N, 1)`` would
silently make ``(N, N)`` pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from cvkit._checks import check_instance, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "LOSSES",
    "AdversarialLoss",
    "hinge_discriminator_loss",
    "hinge_generator_loss",
    "least_squares_discriminator_loss",
    "least_squares_generator_loss",
    "non_saturating_discriminator_loss",
    "non_saturating_generator_loss",
    "relativistic_discriminator_loss",
    "relativistic_generator_loss",
    "wasserstein_discriminator_loss",
    "wasserstein_generator_loss",
]


def _softplus(logits: torch.Tensor) -> torch.Tensor:
    # log(1 + exp(x)) to the last digit; torch's own softplus becomes the identity above 20.
    return -F.logsigmoid(-logits)


def non_saturating_discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    r"""Return the discriminator's loss of the original game, on logits.

    .. math:: L_D = E\,\mathrm{sp}(-s(x)) + E\,\mathrm{sp}(s(G(z))), \qquad \mathrm{sp}(t) = \log(1 + e^t)

    Parameters
    ----------
    real, fake : Tensor
        Logits of real and of generated images, of any shapes.

    Returns
    -------
    Tensor
        Of shape (). Finite for any finite logits: softplus never takes the logarithm of a rounded probability.

    References
    ----------
    Goodfellow et al., "Generative Adversarial Networks", 2014, arXiv:1406.2661.

    Examples
    --------
    >>> import torch
    >>> non_saturating_discriminator_loss(torch.zeros(3), torch.zeros(5)).item() == 2 * torch.log(
    ...     torch.tensor(2.0)
    ... ).item()
    True
    """
    _logits(real=real, fake=fake)
    return _softplus(-real).mean() + _softplus(fake).mean()


def non_saturating_generator_loss(fake: torch.Tensor) -> torch.Tensor:
    r"""Return the generator's non-saturating loss :math:`E\,\mathrm{sp}(-s(G(z)))`.

    Parameters
    ----------
    fake : Tensor
        Logits of generated images, of any shape.

    Returns
    -------
    Tensor
        Of shape ().

    References
    ----------
    Goodfellow et al., 2014, arXiv:1406.2661, section 3.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([2.0], requires_grad=True)
    >>> non_saturating_generator_loss(logits).backward()
    >>> torch.allclose(logits.grad, -torch.sigmoid(-logits))
    True
    """
    _logits(fake=fake)
    return _softplus(-fake).mean()


def hinge_discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    r"""Return the hinge loss of the discriminator.

    .. math:: L_D = E\max(0, 1 - s(x)) + E\max(0, 1 + s(G(z)))

    A loss of 0 for long means a discriminator that has nothing left to learn and a generator without gradient.

    Parameters
    ----------
    real, fake : Tensor
        Logits of real and of generated images, of any shapes.

    Returns
    -------
    Tensor
        Of shape (), at least 0.

    References
    ----------
    Lim and Ye, "Geometric GAN", 2017, arXiv:1705.02894; Miyato et al., 2018, arXiv:1802.05957.

    Examples
    --------
    >>> import torch
    >>> hinge_discriminator_loss(torch.tensor([0.5, 2.0]), torch.tensor([-3.0, 0.0])).item()
    0.75
    """
    _logits(real=real, fake=fake)
    return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()


def hinge_generator_loss(fake: torch.Tensor) -> torch.Tensor:
    r"""Return the generator's side of the hinge loss, :math:`-E\,s(G(z))`, without any hinge.

    Parameters
    ----------
    fake : Tensor
        Logits of generated images, of any shape.

    Returns
    -------
    Tensor
        Of shape ().

    References
    ----------
    Lim and Ye, 2017, arXiv:1705.02894.

    Examples
    --------
    >>> import torch
    >>> hinge_generator_loss(torch.tensor([-3.0, 1.0])).item()
    1.0
    """
    _logits(fake=fake)
    return -fake.mean()


def least_squares_discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    r"""Return the least-squares loss of the discriminator, with the factor 1/2 of the paper.

    .. math:: L_D = \tfrac12 E(s(x) - 1)^2 + \tfrac12 E\,s(G(z))^2

    Parameters
    ----------
    real, fake : Tensor
        Logits of real and of generated images, of any shapes.

    Returns
    -------
    Tensor
        Of shape (), at least 0.

    References
    ----------
    Mao et al., "Least Squares Generative Adversarial Networks", 2017, arXiv:1611.04076, Eq. (9) with a = 0, b = c = 1.

    Examples
    --------
    >>> import torch
    >>> least_squares_discriminator_loss(torch.tensor([3.0]), torch.tensor([1.0])).item()
    2.5
    """
    _logits(real=real, fake=fake)
    return 0.5 * (real - 1.0).square().mean() + 0.5 * fake.square().mean()


def least_squares_generator_loss(fake: torch.Tensor) -> torch.Tensor:
    r"""Return the generator's least-squares loss :math:`\tfrac12 E(s(G(z)) - 1)^2`.

    Parameters
    ----------
    fake : Tensor
        Logits of generated images, of any shape.

    Returns
    -------
    Tensor
        Of shape (), at least 0.

    References
    ----------
    Mao et al., 2017, arXiv:1611.04076, Eq. (9).

    Examples
    --------
    >>> import torch
    >>> least_squares_generator_loss(torch.tensor([3.0])).item()
    2.0
    """
    _logits(fake=fake)
    return 0.5 * (fake - 1.0).square().mean()


def wasserstein_discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    r"""Return the critic's loss :math:`E\,s(G(z)) - E\,s(x)`; pair it with `gradient_penalty`.

    Parameters
    ----------
    real, fake : Tensor
        Scores of real and of generated images, of any shapes.

    Returns
    -------
    Tensor
        Of shape (). Minus the estimate of the Wasserstein distance.

    References
    ----------
    Arjovsky et al., "Wasserstein GAN", 2017, arXiv:1701.07875, Eq. (2).

    Examples
    --------
    >>> import torch
    >>> wasserstein_discriminator_loss(torch.tensor([3.0]), torch.tensor([1.0])).item()
    -2.0
    """
    _logits(real=real, fake=fake)
    return fake.mean() - real.mean()


def wasserstein_generator_loss(fake: torch.Tensor) -> torch.Tensor:
    r"""Return the generator's loss :math:`-E\,s(G(z))`.

    Parameters
    ----------
    fake : Tensor
        Scores of generated images, of any shape.

    Returns
    -------
    Tensor
        Of shape ().

    References
    ----------
    Arjovsky et al., 2017, arXiv:1701.07875.

    Examples
    --------
    >>> import torch
    >>> wasserstein_generator_loss(torch.tensor([1.0, 4.0])).item()
    -2.5
    """
    _logits(fake=fake)
    return -fake.mean()


def relativistic_discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    r"""Return the loss of a discriminator that compares each real image with one generated image.

    .. math:: L_D = E\,\mathrm{sp}\bigl(-(s(x_i) - s(G(z_i)))\bigr)

    The pair i should carry the same label, or the class alone tells the two apart.

    Parameters
    ----------
    real, fake : Tensor of shape (N,)
        Logits of real and of generated images, paired by position; any shape that both have.

    Returns
    -------
    Tensor
        Of shape ().

    Raises
    ------
    ValueError
        If the shapes differ: broadcasting would pair every image with every other.

    References
    ----------
    Jolicoeur-Martineau, 2018, arXiv:1807.00734; Huang et al., "The GAN is dead; long live the GAN!", 2025,
    arXiv:2501.05441, Eq. (2).

    Examples
    --------
    >>> import torch
    >>> loss = relativistic_discriminator_loss(torch.tensor([5.0, -1.0]), torch.tensor([5.0, -1.0]))
    >>> round(loss.item(), 4)
    0.6931
    """
    _pair(real, fake)
    return _softplus(fake - real).mean()


def relativistic_generator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    r"""Return the generator's side of the relativistic pairing loss.

    .. math:: L_G = E\,\mathrm{sp}\bigl(-(s(G(z_i)) - s(x_i))\bigr)

    Parameters
    ----------
    real, fake : Tensor of shape (N,)
        Logits of real and of generated images, paired by position; any shape that both have. The generator has no
        influence on `real`, which may come without a graph.

    Returns
    -------
    Tensor
        Of shape ().

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    Huang et al., 2025, arXiv:2501.05441, Eq. (2).

    Examples
    --------
    >>> import torch
    >>> round(relativistic_generator_loss(torch.tensor([0.0]), torch.tensor([40.0])).item(), 4)
    0.0
    """
    _pair(real, fake)
    return _softplus(real - fake).mean()


@dataclass(frozen=True)
class AdversarialLoss:
    """The two sides of one loss, with one signature for all.

    Parameters
    ----------
    discriminator : callable
        ``(real, fake) -> Tensor of shape ()``.
    generator : callable
        ``(real, fake) -> Tensor of shape ()``.
    paired : bool, default False
        Whether `generator` reads `real`, so that a loop has to score real images in the generator's step too.

    Examples
    --------
    >>> import torch
    >>> LOSSES["hinge"].generator(torch.zeros(2), torch.ones(2)).item()
    -1.0
    """

    discriminator: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    generator: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    paired: bool = False


@dataclass(frozen=True)
class _OfFakes:
    """A loss of the fakes alone, called with both; unlike a lambda it pickles."""

    loss: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, _: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return self.loss(fake)


LOSSES: Mapping[str, AdversarialLoss] = MappingProxyType(
    {
        "hinge": AdversarialLoss(hinge_discriminator_loss, _OfFakes(hinge_generator_loss)),
        "non-saturating": AdversarialLoss(non_saturating_discriminator_loss, _OfFakes(non_saturating_generator_loss)),
        "least-squares": AdversarialLoss(least_squares_discriminator_loss, _OfFakes(least_squares_generator_loss)),
        "wasserstein": AdversarialLoss(wasserstein_discriminator_loss, _OfFakes(wasserstein_generator_loss)),
        "relativistic": AdversarialLoss(relativistic_discriminator_loss, relativistic_generator_loss, paired=True),
    }
)
"""The losses by the names that presets use."""


def _logits(**tensors: torch.Tensor) -> None:
    for name, tensor in tensors.items():
        check_instance(name, tensor, torch.Tensor)
        if not tensor.is_floating_point():
            raise TypeError(f"`{name}` must hold floating logits; got {shown(tensor)}")
        if not tensor.numel():
            raise ValueError(f"`{name}` must hold at least one logit; got {shown(tensor)}")


def _pair(real: torch.Tensor, fake: torch.Tensor) -> None:
    _logits(real=real, fake=fake)
    if real.shape != fake.shape:
        raise ValueError(f"`real` and `fake` must have one shape; got {tuple(real.shape)} and {tuple(fake.shape)}")
