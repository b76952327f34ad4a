"""Presets: every number of a recipe in one frozen record, and schedules that read images seen.

No schedule reads the number of steps of a run: that only says when to stop, so that a longer run begins like a shorter
one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from cvkit._checks import check_choice, check_instance, check_integer, check_interval
from cvkit.gan.augment import DiffAugment
from cvkit.gan.losses import LOSSES

__all__ = ["PRESETS", "Preset", "preset"]


@dataclass(frozen=True)
class Preset:
    """A recipe: networks, loss, penalties, optimisers and schedules.

    Parameters
    ----------
    latent_size : int
        Length of a latent vector.
    generator_width, generator_max_width, generator_blocks : int
        `width`, `max_width` and `blocks` of `Generator`.
    headroom : float
        See `Generator`.
    discriminator_width, discriminator_max_width : int
        `width` and `max_width` of `Discriminator`.
    spectral_norm : bool
        Whether the discriminator's weights are divided by their largest singular value.
    loss : str
        A name of `LOSSES`.
    r1, r2 : float
        Strength of the penalties on real and on generated images; 0 leaves one out.
    gradient_penalty : float
        Weight of WGAN-GP's penalty; 0 leaves it out.
    penalty_interval : int
        Penalties are computed every so many steps, multiplied by this number.
    generator_rate, discriminator_rate : float
        Learning rates of Adam at the start.
    betas : tuple of float
        Of Adam.
    rate_share : float
        Learning rates fall along a half cosine to this share of the start value.
    horizon : int
        Images seen at which they arrive there; they stay there then.
    warmup : int
        Images seen over which learning rates rise from 0.
    half_life : int
        Images after which an old parameter counts half in the averaged generator.
    half_life_ramp : float
        The half-life is at most this share of the images seen, so that a young average forgets the start.
    augment : DiffAugment
        Applied to real and generated images in both players' steps.
    batch_size : int
        Images a step.

    Examples
    --------
    >>> recipe = Preset(r1=0.5)
    >>> Preset.from_dict(recipe.to_dict()) == recipe
    True
    >>> recipe.rate(0), recipe.rate(recipe.warmup) > recipe.rate(recipe.horizon)
    (0.0, True)
    """

    latent_size: int = 64
    generator_width: int = 64
    generator_max_width: int = 128
    generator_blocks: int = 1
    headroom: float = 1.1
    discriminator_width: int = 32
    discriminator_max_width: int = 128
    spectral_norm: bool = False
    loss: str = "relativistic"
    r1: float = 1.0
    r2: float = 1.0
    gradient_penalty: float = 0.0
    penalty_interval: int = 4
    generator_rate: float = 2e-3
    discriminator_rate: float = 2e-3
    betas: tuple[float, float] = (0.0, 0.99)
    rate_share: float = 0.1
    horizon: int = 500_000
    warmup: int = 6_400
    half_life: int = 10_000
    half_life_ramp: float = 0.1
    augment: DiffAugment = field(default_factory=lambda: DiffAugment(translation=0.0))
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in (
            "latent_size", "generator_width", "generator_max_width", "discriminator_width", "discriminator_max_width",
            "penalty_interval", "horizon", "batch_size",
        ):  # fmt: skip
            check_integer(name, getattr(self, name), minimum=1)
        for name in ("generator_blocks", "warmup", "half_life"):
            check_integer(name, getattr(self, name), minimum=0)
        for name in ("r1", "r2", "gradient_penalty"):
            check_interval(name, getattr(self, name), 0.0)
        for name in ("generator_rate", "discriminator_rate"):
            check_interval(name, getattr(self, name), 0.0, low_open=True)
        check_interval("headroom", self.headroom, 1.0)
        check_interval("rate_share", self.rate_share, 0.0, 1.0)
        check_interval("half_life_ramp", self.half_life_ramp, 0.0, low_open=True)
        check_choice("loss", self.loss, list(LOSSES))
        check_instance("spectral_norm", self.spectral_norm, bool)
        check_instance("augment", self.augment, DiffAugment)
        if len(self.betas) != 2:
            raise ValueError(f"`betas` must be two numbers; got {self.betas!r}")
        # Two floats: torch refuses an int beside a float.
        betas = tuple(
            check_interval(f"betas[{i}]", beta, 0.0, 1.0, high_open=True) for i, beta in enumerate(self.betas)
        )
        object.__setattr__(self, "betas", betas)

    @property
    def penalized(self) -> bool:
        """Whether any penalty is switched on."""
        return bool(self.r1 or self.r2 or self.gradient_penalty)

    def rate(self, images: int) -> float:
        """Return the factor on both learning rates once `images` were seen: linear warm-up times half a cosine."""
        rise = 1.0 if images >= self.warmup else images / self.warmup
        progress = min(images / self.horizon, 1.0)
        fall = self.rate_share + (1.0 - self.rate_share) * 0.5 * (1.0 + math.cos(math.pi * progress))
        return rise * fall

    def average_half_life(self, images: int) -> float:
        """Return the half-life of the average, in images, once `images` were seen."""
        return min(float(self.half_life), self.half_life_ramp * images)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a JSON document holds them."""
        values = dataclasses.asdict(self)
        values["betas"] = list(self.betas)
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Preset:
        """Return the preset that `to_dict` took apart; unknown keys are refused by name."""
        values = dict(values)
        _refuse_unknown(values, Preset)
        if isinstance(values.get("augment"), Mapping):
            _refuse_unknown(values["augment"], DiffAugment)
            values["augment"] = DiffAugment(**values["augment"])
        if "betas" in values:
            values["betas"] = tuple(values["betas"])
        return Preset(**values)


def _refuse_unknown(values: Mapping[str, Any], kind: type) -> None:
    known = [entry.name for entry in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            raise ValueError(f"{kind.__name__} has no setting {key!r}; it has {', '.join(known)}")


PRESETS: Mapping[str, Preset] = MappingProxyType({"sketch28": Preset()})
"""The recipes by name."""


def preset(model: str | Preset, **changes: Any) -> Preset:
    """Return a preset by name, with some settings changed.

    Parameters
    ----------
    model : str or Preset
        A name of `PRESETS`, or a preset.
    **changes
        Settings to replace, by the names that `Preset` has.

    Returns
    -------
    Preset
        The recipe.

    Raises
    ------
    ValueError
        For an unknown name or setting.

    Examples
    --------
    >>> preset("sketch28", r1=0.5).r1
    0.5
    >>> preset("sketch28", gamma=0.5)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ...
    """
    if isinstance(model, str):
        base = PRESETS[check_choice("model", model, list(PRESETS))]
    else:
        base = check_instance("model", model, Preset, "the name of a preset or a Preset")
    _refuse_unknown(changes, Preset)
    return dataclasses.replace(base, **changes)
