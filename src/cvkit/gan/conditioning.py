"""How a class label enters a network: conditional batch norm in the generator, projection in the discriminator."""

from __future__ import annotations

import math

import torch
from torch import nn

from cvkit._checks import check_integer, check_interval

__all__ = ["ClassProjection", "ConditionalBatchNorm2d"]


class ConditionalBatchNorm2d(nn.Module):
    r"""Batch norm whose gain and shift belong to the class of each image.

    .. math:: y = (1 + g_c)\,\frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + b_c

    :math:`g` and :math:`b` start at 0, so that every class starts with gain 1 and shift 0.

    Parameters
    ----------
    channels : int
        Channels of the input.
    classes : int
        Number of classes.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float, default 0.1
        Weight of the newest batch in the running statistics.

    References
    ----------
    Dumoulin et al., 2017, arXiv:1610.07629, Eq. (5); Brock et al., 2019, arXiv:1809.11096, appendix B.

    Examples
    --------
    >>> import torch
    >>> norm = ConditionalBatchNorm2d(4, classes=3)
    >>> norm(torch.randn(5, 4, 7, 6), torch.tensor([0, 2, 1, 0, 0])).shape
    torch.Size([5, 4, 7, 6])
    """

    def __init__(self, channels: int, classes: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.channels = check_integer("channels", channels, minimum=1)
        self.classes = check_integer("classes", classes, minimum=1)
        eps = check_interval("eps", eps, 0.0, low_open=True)
        momentum = check_interval("momentum", momentum, 0.0, 1.0)
        self.norm = nn.BatchNorm2d(self.channels, eps=eps, momentum=momentum, affine=False)
        self.gain = nn.Parameter(torch.zeros(self.classes, self.channels))
        self.shift = nn.Parameter(torch.zeros(self.classes, self.channels))

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Normalise `features` (N, C, H, W) and apply the gain and shift of `labels` (N,)."""
        normal: torch.Tensor = self.norm(features)
        gain = (1.0 + self.gain[labels])[:, :, None, None]
        shift = self.shift[labels][:, :, None, None]
        return torch.addcmul(shift.to(normal.dtype), normal, gain.to(normal.dtype))


class ClassProjection(nn.Module):
    r"""Logit of features given a class: :math:`s = w \cdot \phi + b + \langle e_c, \phi \rangle`.

    The class embedding starts small, with standard deviation :math:`1/\sqrt d`, so that at first the unconditional
    part decides.

    Parameters
    ----------
    features : int
        Length of :math:`\phi`.
    classes : int
        Number of classes.

    References
    ----------
    Miyato and Koyama, "cGANs with Projection Discriminator", 2018, arXiv:1802.05637, Eq. (4).

    Examples
    --------
    >>> import torch
    >>> head = ClassProjection(16, classes=3)
    >>> head(torch.randn(5, 16), torch.tensor([0, 2, 1, 0, 0])).shape
    torch.Size([5])
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        features = check_integer("features", features, minimum=1)
        self.classes = check_integer("classes", classes, minimum=1)
        self.linear = nn.Linear(features, 1)
        self.embedding = nn.Embedding(self.classes, features)
        nn.init.normal_(self.embedding.weight, std=1.0 / math.sqrt(features))

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return one logit (N,) for `features` (N, d) and `labels` (N,)."""
        plain: torch.Tensor = self.linear(features)
        embedded: torch.Tensor = self.embedding(labels)
        return plain[:, 0] + (embedded * features).sum(1)
