"""The generator: a few wide layers at low resolution, one cheap step to full resolution, class-conditional batch norm.

It follows DCGAN (Radford et al., 2016, arXiv:1511.06434) with `cvkit.gan.ConditionalBatchNorm2d`. What costs time in
small convolutional generators is width at full resolution, so there is none: the last transposed convolution goes from
half the resolution straight to the image.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from cvkit._checks import check_integer, check_interval, check_size
from cvkit.gan.conditioning import ConditionalBatchNorm2d
from cvkit.gan.nets.initialise import initialise_

if TYPE_CHECKING:
    from cvkit._types import Size

__all__ = ["Generator", "at_least_float32", "resolutions"]

_MOST_BLOCKS = 256


def resolutions(size: Size, *, smallest: int = 7) -> list[Size]:
    """Return sizes from `size` down, each half the one before, rounded up, to a shorter side of at most `smallest`."""
    sizes = [size]
    while min(sizes[-1]) > smallest:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


class Generator(nn.Module):
    """Draw images in [-1, 1] from latents and class labels.

    Parameters
    ----------
    classes : int
        Number of classes.
    channels : int, default 1
        Channels of the images.
    size : tuple of int, default (28, 28)
        Height and width of the images, each at least 8; they need not divide by anything.
    latent_size : int, default 64
        Length of a latent vector.
    width : int, default 64
        Channels at half the resolution. Each halving below doubles them, up to `max_width`.
    max_width : int, default 128
        Largest number of channels.
    blocks : int, default 0
        Residual 3x3 convolutions at the lowest resolution.
    headroom : float, default 1.1
        The output is ``clamp(headroom * tanh(h), -1, 1)`` whose gradient ignores the clamp. Above 1, blank paper is
        reached exactly and kept; at 1, it is approached without end and stays grey.

    Notes
    -----
    In training mode every image of a batch depends on the others through batch norm; in eval mode none does.

    Examples
    --------
    >>> import torch
    >>> network = Generator(classes=3, channels=1, size=(28, 20), width=8, max_width=16).eval()
    >>> network(torch.randn(5, 64), torch.tensor([0, 2, 1, 0, 0])).shape
    torch.Size([5, 1, 28, 20])
    """

    def __init__(
        self,
        classes: int,
        *,
        channels: int = 1,
        size: Size = (28, 28),
        latent_size: int = 64,
        width: int = 64,
        max_width: int = 128,
        blocks: int = 0,
        headroom: float = 1.1,
    ) -> None:
        super().__init__()
        self.classes = check_integer("classes", classes, minimum=1)
        self.channels = check_integer("channels", channels, minimum=1)
        self.size = check_size("size", size, minimum=8)
        self.latent_size = check_integer("latent_size", latent_size, minimum=1)
        self.width = check_integer("width", width, minimum=1)
        self.max_width = check_integer("max_width", max_width, minimum=1)
        self.blocks = check_integer("blocks", blocks, minimum=0, maximum=_MOST_BLOCKS)
        self.headroom = check_interval("headroom", headroom, 1.0)

        # From low to high resolution; the image itself has no features of its own.
        self.sizes = resolutions(self.size)[:0:-1]
        widths = [min(self.width * 2**level, self.max_width) for level in range(len(self.sizes))][::-1]
        height, breadth = self.sizes[0]
        self.embedding = nn.Embedding(self.classes, 32)
        self.linear = nn.Linear(self.latent_size + 32, widths[0] * height * breadth)
        self.norms = nn.ModuleList([ConditionalBatchNorm2d(w, self.classes) for w in widths])
        self.block_convs = nn.ModuleList(
            [nn.Conv2d(widths[0], widths[0], 3, 1, 1, bias=False) for _ in range(self.blocks)]
        )
        self.block_norms = nn.ModuleList([ConditionalBatchNorm2d(widths[0], self.classes) for _ in range(self.blocks)])
        self.ups = nn.ModuleList([nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in pairwise(widths)])
        self.head = nn.ConvTranspose2d(widths[-1], self.channels, 4, 2, 1)
        initialise_(self)

    def forward(self, latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return images (N, C, H, W) in [-1, 1] for `latents` (N, latent_size) and `labels` (N,) int64."""
        hidden = self.linear(torch.cat([latents, self.embedding(labels)], 1))
        hidden = hidden.view(len(latents), self.norms[0].channels, *self.sizes[0])
        if self.head.weight.is_contiguous(memory_format=torch.channels_last):
            hidden = hidden.contiguous(memory_format=torch.channels_last)
        hidden = F.relu(self.norms[0](hidden, labels))
        for conv, norm in zip(self.block_convs, self.block_norms, strict=True):
            hidden = hidden + F.relu(norm(conv(hidden), labels))
        for up, norm, size in zip(self.ups, self.norms[1:], self.sizes[1:], strict=True):
            hidden = F.relu(norm(_crop(up(hidden), size), labels))
        image = at_least_float32(_crop(self.head(hidden), self.size))
        saturated: torch.Tensor = _Saturate.apply(self.headroom * torch.tanh(image))  # type: ignore[no-untyped-call]
        return saturated

    def settings(self) -> dict[str, Any]:
        """Return the arguments that build this network again, as JSON values."""
        names = ("classes", "channels", "size", "latent_size", "width", "max_width", "blocks", "headroom")
        values = {name: getattr(self, name) for name in names}
        return {**values, "size": list(self.size)}


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Leave autocast: half precision becomes float32, float64 stays."""
    return values.float() if values.dtype in {torch.float16, torch.bfloat16} else values


def _crop(image: torch.Tensor, size: Size) -> torch.Tensor:
    """Cut to a size that doubling overshoots by at most one row and column."""
    return image[..., : size[0], : size[1]]


class _Saturate(torch.autograd.Function):
    """Clamp to [-1, 1] and hand the gradient through: a pixel that is saturated can still be called back."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return values.clamp(-1.0, 1.0)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return gradient
