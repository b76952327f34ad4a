"""Differentiable augmentation for both players' steps, that knows what blank paper is.

Follows Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020, arXiv:2006.10738. There, a
moved or cut out region is filled with 0, which is the middle grey of images in [-1, 1]; on a sketch that is a grey box
which tells the discriminator everything. Here it is filled with the background. No flips and no turns: they change what
many drawings are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cvkit._checks import check_finite, check_instance, check_integer, check_interval, shown

__all__ = ["DiffAugment"]

_DRAWS = 7


@dataclass(frozen=True)
class DiffAugment:
    """Move, cut and recolour images in [-1, 1], each by its own random amounts, with gradients to the images.

    Amounts of 0 switch an operation off. The order is: brightness, saturation, contrast, translation, cutout.

    Parameters
    ----------
    translation : float, default 0.125
        Largest shift as a share of each side, in [0, 1]. Shifts are whole pixels.
    cutout : float, default 0.0
        Side of the blanked box as a share of each side, in [0, 1]. Its centre may lie anywhere on the image.
    brightness : float, default 0.0
        Half-width of the uniform offset that is added, in units of the image. It moves the background too.
    saturation : float, default 0.0
        Half-width of the factor around 1 by which colours move from their mean over the channels.
    contrast : float, default 0.0
        Half-width of the factor around 1 by which values move from the mean of the image.
    background : float, default -1.0
        What is uncovered by translation and what cutout leaves: blank paper, as the networks see it.

    Examples
    --------
    >>> import torch
    >>> augment = DiffAugment(translation=0.25)
    >>> images = torch.ones(2, 1, 8, 8)
    >>> draws = augment.draw(2, generator=torch.Generator().manual_seed(0))
    >>> moved = augment(images, draws)
    >>> moved.shape, sorted(set(moved.flatten().tolist()))
    (torch.Size([2, 1, 8, 8]), [-1.0, 1.0])
    """

    translation: float = 0.125
    cutout: float = 0.0
    brightness: float = 0.0
    saturation: float = 0.0
    contrast: float = 0.0
    background: float = -1.0

    def __post_init__(self) -> None:
        for name in ("translation", "cutout"):
            check_interval(name, getattr(self, name), 0.0, 1.0)
        for name in ("brightness", "saturation", "contrast"):
            check_interval(name, getattr(self, name), 0.0)
        check_finite("background", self.background)

    @property
    def active(self) -> bool:
        """Whether any operation is switched on."""
        return any((self.translation, self.cutout, self.brightness, self.saturation, self.contrast))

    def draw(self, count: int, *, generator: torch.Generator) -> torch.Tensor:
        """Draw the random numbers for `count` images.

        Parameters
        ----------
        count : int
            Number of images.
        generator : torch.Generator
            Where the numbers come from; the result is on its device.

        Returns
        -------
        Tensor of shape (count, 7)
            Uniform in [0, 1). A row belongs to an image, so that a process may draw for all and keep its share.
        """
        count = check_integer("count", count, minimum=0)
        return torch.rand(count, _DRAWS, generator=generator, device=generator.device)

    def __call__(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Apply the operations.

        Parameters
        ----------
        images : Tensor of shape (N, C, H, W)
            Floating, in [-1, 1].
        draws : Tensor of shape (N, 7)
            From `draw`.

        Returns
        -------
        Tensor of shape (N, C, H, W)
            Differentiable in `images`, twice if need be.
        """
        check_instance("images", images, torch.Tensor)
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(f"`images` must be floating and of shape (N, C, H, W); got {shown(images)}")
        if draws.shape != (len(images), _DRAWS):
            raise ValueError(f"`draws` must have shape ({len(images)}, {_DRAWS}); got {shown(draws)}")
        draws = draws.to(images.device)
        bright, saturate, contrast = (draws[:, i, None, None, None].to(images.dtype) * 2.0 - 1.0 for i in range(3))
        if self.brightness:
            images = images + self.brightness * bright
        if self.saturation and images.shape[1] > 1:
            images = _scale_around(images, images.mean(1, keepdim=True), 1.0 + self.saturation * saturate)
        if self.contrast:
            images = _scale_around(images, images.mean((1, 2, 3), keepdim=True), 1.0 + self.contrast * contrast)
        if self.translation:
            images = _translate(images, draws[:, 3:5], self.translation, self.background)
        if self.cutout:
            images = _cut(images, draws[:, 5:7], self.cutout, self.background)
        return images


def _scale_around(images: torch.Tensor, centre: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return centre + (images - centre) * factor


def _translate(images: torch.Tensor, draws: torch.Tensor, share: float, background: float) -> torch.Tensor:
    """Shift each image by whole pixels: two gathers, along rows and along columns, and a mask for what is uncovered."""
    for axis, draw in ((2, draws[:, 0]), (3, draws[:, 1])):
        side = images.shape[axis]
        limit = int(share * side + 0.5)
        # Uniform over -limit .. limit; rounding may give limit + 1 for a draw just below 1, hence the clamp.
        shift = ((draw * (2 * limit + 1)).floor().clamp(max=2 * limit) - limit).long()
        source = torch.arange(side, device=images.device)[None, :] - shift[:, None]
        shape = [len(images), 1, 1, 1]
        shape[axis] = side
        inside = ((source >= 0) & (source < side)).view(shape)
        index = source.clamp(0, side - 1).view(shape).expand_as(images)
        images = torch.where(inside, images.gather(axis, index), background)
    return images


def _cut(images: torch.Tensor, draws: torch.Tensor, share: float, background: float) -> torch.Tensor:
    """Blank a box around a random centre; it is cut off at the border."""
    masks = []
    for axis, draw in ((2, draws[:, 0]), (3, draws[:, 1])):
        side = images.shape[axis]
        length = int(share * side + 0.5)
        first = (draw * side).floor().clamp(max=side - 1).long()[:, None] - length // 2
        place = torch.arange(side, device=images.device)[None, :]
        masks.append((place >= first) & (place < first + length))
    box = masks[0][:, None, :, None] & masks[1][:, None, None, :]
    return images.masked_fill(box, background)
