"""The discriminator: strided convolutions, no batch norm, and the projection of `cvkit.gan.ClassProjection`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from cvkit._checks import check_integer, check_size
from cvkit.gan.conditioning import ClassProjection
from cvkit.gan.nets.generator import at_least_float32
from cvkit.gan.nets.initialise import initialise_

if TYPE_CHECKING:
    from cvkit._types import Size

__all__ = ["Discriminator"]


class Discriminator(nn.Module):
    """Give one logit an image and its class.

    There is no batch norm in it, nor anything else that mixes samples: real and generated images may share one batch,
    and the gradient penalties are exact.

    Parameters
    ----------
    classes : int
        Number of classes.
    channels : int, default 1
        Channels of the images.
    size : tuple of int, default (28, 28)
        Height and width of the images, each at least 8.
    width : int, default 32
        Channels after the first convolution, at half the resolution. Each halving doubles them, up to `max_width`.
    max_width : int, default 128
        Largest number of channels.
    spectral_norm : bool, default True
        Divide every weight by its largest singular value, tracked by one power step a forward pass in training mode.

    Examples
    --------
    >>> import torch
    >>> network = Discriminator(classes=3, channels=1, size=(28, 20), width=4)
    >>> network(torch.zeros(5, 1, 28, 20), torch.tensor([0, 2, 1, 0, 0])).shape
    torch.Size([5])
    """

    def __init__(
        self,
        classes: int,
        *,
        channels: int = 1,
        size: Size = (28, 28),
        width: int = 32,
        max_width: int = 128,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        self.classes = check_integer("classes", classes, minimum=1)
        self.channels = check_integer("channels", channels, minimum=1)
        self.size = check_size("size", size, minimum=8)
        width = check_integer("width", width, minimum=1)
        max_width = check_integer("max_width", max_width, minimum=1)

        height, breadth = self.size
        widths = [self.channels]
        while min(height, breadth) > 3:
            widths.append(min(width * 2 ** (len(widths) - 1), max_width))
            height, breadth = height // 2, breadth // 2
        self.convs = nn.ModuleList([nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths)])
        self.head = ClassProjection(widths[-1] * height * breadth, self.classes)
        if spectral_norm:
            _normalise(self)
        initialise_(self)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return logits (N,) float32 for `images` (N, C, H, W) in [-1, 1] and `labels` (N,) int64."""
        hidden = images
        for conv in self.convs:
            hidden = F.leaky_relu(conv(hidden), 0.2)
        logits: torch.Tensor = self.head(at_least_float32(hidden.flatten(1)), labels)
        return at_least_float32(logits)


def _normalise(network: Discriminator) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            parametrizations.spectral_norm(module)
