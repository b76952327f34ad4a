"""One step of training: the discriminator's update, then the generator's, on one batch of generated images."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch

from cvkit import training
from cvkit.gan.losses import LOSSES
from cvkit.gan.monitor import within_class_spread
from cvkit.gan.nets.generator import at_least_float32
from cvkit.gan.penalties import gradient_penalty, r1_penalty, r2_penalty
from cvkit.gan.ranges import to_signed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cvkit.gan.presets import Preset
    from cvkit.training import State

__all__ = ["Batch", "gan_step"]

Batch: TypeAlias = "Mapping[str, torch.Tensor]"
"""uint8 ``images`` (B, C, H, W) and int64 ``labels`` (B,)."""


def gan_step(recipe: Preset, *, classes: int) -> Callable[[State, Batch], dict[str, torch.Tensor]]:
    """Return the step function of a recipe: the discriminator's update, then the generator's.

    The generator runs once a step: the same images serve both updates. Generated images carry the labels of the real
    batch, so that pairs share their class and the classes keep their frequencies. The networks may be any that take
    (latents, labels) and (images, labels), as long as no layer of the discriminator mixes samples.

    Parameters
    ----------
    recipe : Preset
        Loss, penalties and schedules.
    classes : int
        Number of classes.

    Returns
    -------
    callable
        ``(state, batch) -> metrics`` for `cvkit.training.train`. The state holds the modules and optimisers
        ``generator`` and ``discriminator`` and the average ``generator``; a batch holds uint8 ``images`` (B, C, H, W)
        and int64 ``labels`` (B,).

    Examples
    --------
    >>> from cvkit.gan import gan_step, preset
    >>> step = gan_step(preset("sketch28", r1=0.5), classes=9)
    >>> callable(step)
    True
    """

    def step(state: State, batch: Batch) -> dict[str, torch.Tensor]:
        _set_rates(state, recipe)
        labels = batch["labels"]
        real = to_signed(batch["images"]).contiguous(memory_format=torch.channels_last)
        shape = (state.batch_size, recipe.latent_size)
        latents = torch.randn(shape, generator=state.generator("latents"), device=state.world.device)
        with state.autocast():
            fake = at_least_float32(state.modules["generator"](state.share(latents), labels))

        metrics = _update_discriminator(recipe, state, real, fake.detach(), labels)
        metrics |= _update_generator(recipe, state, real, fake, labels)

        half_life = recipe.average_half_life(state.images + state.batch_size)
        decay = training.half_life_decay(state.batch_size, half_life)
        state.averages["generator"].update(state.modules["generator"], decay=decay)
        return metrics | {"spread": within_class_spread(fake.detach(), real, labels, classes=classes)}

    return step


def _set_rates(state: State, recipe: Preset) -> None:
    factor = recipe.rate(state.images + state.batch_size)
    for name, rate in (("generator", recipe.generator_rate), ("discriminator", recipe.discriminator_rate)):
        for group in state.optimizers[name].param_groups:
            group["lr"] = rate * factor


def _update_discriminator(
    recipe: Preset, state: State, real: torch.Tensor, fake: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Update the discriminator: real and generated images in one forward pass, as nothing in it mixes samples."""
    discriminator = state.modules["discriminator"]
    augment = _augmentation(recipe, state, "augmentation, discriminator")
    with state.autocast():
        logits = discriminator(torch.cat([augment(real), augment(fake)]), torch.cat([labels, labels]))
    logits = at_least_float32(logits)
    real_logits, fake_logits = logits.chunk(2)
    objective = LOSSES[recipe.loss].discriminator(real_logits, fake_logits)
    metrics = {
        "loss_discriminator": objective,
        "logit_real": real_logits.mean(),
        "logit_fake": fake_logits.mean(),
    }
    if recipe.penalized and state.step % recipe.penalty_interval == 0:
        metrics["penalty"] = _penalty(recipe, state, lambda x: discriminator(augment(x), labels), real, fake)
        objective = objective + recipe.penalty_interval * metrics["penalty"]
    metrics["gradient_discriminator"] = training.update(state, "discriminator", objective).gradient_norm
    return {name: value.detach() for name, value in metrics.items()}


def _update_generator(
    recipe: Preset, state: State, real: torch.Tensor, fake: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Update the generator against the discriminator as it is now; the latter gets no gradient of its weights."""
    discriminator = state.modules["discriminator"]
    loss = LOSSES[recipe.loss]
    augment = _augmentation(recipe, state, "augmentation, generator")
    with state.autocast():
        fake_logits = at_least_float32(discriminator(augment(fake), labels))
        real_logits = fake_logits.detach()
        if loss.paired:
            with torch.no_grad():
                real_logits = at_least_float32(discriminator(augment(real), labels))
    objective = loss.generator(real_logits, fake_logits)
    update = training.update(state, "generator", objective)
    return {"loss_generator": update.loss, "gradient_generator": update.gradient_norm}


def _augmentation(recipe: Preset, state: State, purpose: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the augmentation of this step: a real and a generated image at one place in the batch get the same one."""
    if not recipe.augment.active:
        return lambda images: images
    draws = state.share(recipe.augment.draw(state.batch_size, generator=state.generator(purpose)))
    return lambda images: recipe.augment(images, draws)


def _penalty(
    recipe: Preset,
    state: State,
    score: Callable[[torch.Tensor], torch.Tensor],
    real: torch.Tensor,
    fake: torch.Tensor,
) -> torch.Tensor:
    """Return the sum of the recipe's penalties, in full precision."""
    terms = []
    with torch.autocast(real.device.type, enabled=False):
        if recipe.r1:
            terms.append(r1_penalty(score, real, gamma=recipe.r1))
        if recipe.r2:
            terms.append(r2_penalty(score, fake, gamma=recipe.r2))
        if recipe.gradient_penalty:
            shares = state.generator("mixtures")
            terms.append(gradient_penalty(score, real, fake, weight=recipe.gradient_penalty, generator=shares))
    return torch.stack(terms).sum()
