"""Fitting a conditional generator: a recipe, a data set and a folder, driven by `cvkit.training`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import nn

from cvkit import training
from cvkit._checks import check_choice, check_instance, check_integer, shown
from cvkit.gan.draw import sample_sheet
from cvkit.gan.inputs import Dataset, checked_data, fingerprint
from cvkit.gan.monitor import monitor
from cvkit.gan.nets.discriminator import Discriminator
from cvkit.gan.nets.generator import Generator
from cvkit.gan.nets.initialise import build
from cvkit.gan.presets import Preset, preset
from cvkit.gan.sample import Sampler
from cvkit.gan.step import gan_step
from cvkit.io import save_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cvkit._types import StrPath
    from cvkit.gan.datasets import ImageSet

__all__ = ["Networks", "fit"]

Networks: TypeAlias = tuple[nn.Module, nn.Module]
"""A generator ``(latents, labels) -> images`` and a discriminator ``(images, labels) -> logits``."""


def fit(
    data: Dataset,
    *,
    model: str | Preset = "sketch28",
    out: StrPath,
    steps: int,
    networks: Networks | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    resume: Literal["auto", "never", "require"] = "auto",
    checkpoint_every: int = 1000,
    log_every: int = 50,
    sheet_every: int | None = 500,
    collapse: Literal["warn", "stop", "ignore"] = "warn",
    device: torch.device | str = "cpu",
    precision: Literal["float32", "bfloat16"] = "float32",
    max_seconds: float | None = None,
    writers: Sequence[Callable[[dict[str, float]], None]] = (),
    progress: bool = True,
) -> training.Run[Sampler]:
    """Train a conditional generator and its discriminator.

    Every random choice derives from (seed, step, purpose), so that a run that was cut anywhere and goes on equals an
    unbroken one bit for bit on the same build, processor type, thread count and device.

    Parameters
    ----------
    data : data set or tuple
        Anything with uint8 `images` (N, H, W) or (N, C, H, W), integer `labels` (N,) and class `names`, or a tuple
        ``(images, labels)`` of arrays or tensors, whose classes are then named by their number. Height and width are at
        least 8.
    model : str or Preset, default "sketch28"
        The recipe. How it is changed: ``preset("sketch28", r1=0.5)``.
    out : str or path-like
        Folder of the run: checkpoints, ``log.csv``, and ``sheets/``.
    steps : int
        Total number of steps, those of earlier calls included. It only says when to stop; no schedule reads it.
    networks : tuple of torch.nn.Module, optional
        A generator and a discriminator of your own, trained in place, instead of those the recipe describes.
    seed : int, default 0
        Seed of all randomness.
    batch_size : int, optional
        Images a step over all processes; by default the recipe's.
    resume : {'auto', 'never', 'require'}
        Go on from the newest complete checkpoint if there is one; refuse a folder that has one; insist on one. Another
        recipe or other data than the folder's are refused, naming what differs.
    checkpoint_every : int, default 1000
        Steps between checkpoints. The last step is always saved.
    log_every : int, default 50
        Steps between rows of the log.
    sheet_every : int or None, default 500
        Steps between sample sheets, each of the same latents; one is drawn at the end too. None draws none.
    collapse : {'warn', 'stop', 'ignore'}
        What to do when `diagnose` finds, from the log, that the generator draws the same picture for a class or that
        the discriminator has nothing left to learn. 'stop' raises `cvkit.training.DivergenceError`.
    device : torch.device or str, default "cpu"
        Where to train. Nothing is moved there silently but what `fit` made itself.
    precision : {'float32', 'bfloat16'}
        Precision of the forward passes. Penalties are computed in float32 in any case.
    max_seconds : float, optional
        Time budget of this call: the run stops, saved, once it is spent.
    writers : sequence of callable, optional
        Called with every row of the log.
    progress : bool, default True
        Whether to show a bar if standard error is a terminal.

    Returns
    -------
    cvkit.training.Run
        ``model`` is a `Sampler` of the averaged generator, calibrated (see `Sampler.calibrated`). ``history`` holds the
        rows of the log: means of ``loss_discriminator``, ``loss_generator``, ``logit_real``, ``logit_fake``,
        ``penalty``, ``spread`` (see `within_class_spread`) and the norms of both gradients.

    Raises
    ------
    TypeError
        If images are not uint8 or labels not integers.
    ValueError
        If shapes disagree, a label is outside 0..K-1, a class has no image, or an argument is out of range.
    CheckpointError
        If the folder belongs to another run or is damaged.
    DivergenceError
        If a loss or gradient is not finite, or on collapse if asked to. The last good checkpoint stays.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from cvkit.gan import fit, preset
    >>> rng = np.random.default_rng(0)
    >>> images = rng.integers(0, 256, (20, 8, 8), dtype=np.uint8)
    >>> labels = np.arange(20) % 2
    >>> tiny = preset("sketch28", generator_width=4, discriminator_width=4, batch_size=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = fit((images, labels), model=tiny, out=folder, steps=3, sheet_every=None)
    >>> run.model.sample([0, 1], n=2).shape
    torch.Size([4, 1, 8, 8])
    """
    known = checked_data(data)
    recipe = preset(model)
    check_choice("collapse", collapse, ("warn", "stop", "ignore"))
    if sheet_every is not None:
        sheet_every = check_integer("sheet_every", sheet_every, minimum=1)
    size = recipe.batch_size if batch_size is None else check_integer("batch_size", batch_size, minimum=2)

    with training.processes(device) as world:
        generator, discriminator = _networks(known, recipe, seed) if networks is None else _checked_networks(networks)
        for network in (generator, discriminator):
            network.to(world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            network.train()
        state = training.State(
            modules={"generator": generator, "discriminator": discriminator},
            optimizers={
                "generator": _adam(generator, recipe.generator_rate, recipe.betas),
                "discriminator": _adam(discriminator, recipe.discriminator_rate, recipe.betas),
            },
            averages={"generator": training.Average(generator)},
            seed=seed,
            batch_size=size,
            precision=precision,
            world=world,
        )
        sampler = Sampler(state.averages["generator"].module, known.names, recipe.latent_size, recipe)
        held = training.InMemory({"images": known.images, "labels": known.labels}, world.device)
        order = training.ResumableSampler(len(held), size, seed=seed)
        folder = Path(out) / "sheets"
        counts: list[float] = [int(count) for count in known.counts]
        run = training.train(
            state,
            gan_step(recipe, classes=len(known.names)),
            training.Sampled(order, held, world),
            model=sampler,
            out=out,
            steps=steps,
            meta={**sampler.describe(), "class_counts": [*counts]} if isinstance(generator, Generator) else None,
            fingerprint={"preset": recipe.to_dict(), "data": fingerprint(known)},
            resume=resume,
            checkpoint_every=checkpoint_every,
            log_every=log_every,
            evaluate=None
            if sheet_every is None
            else lambda state: _draw_sheet(state, sampler.calibrated(counts), folder),
            evaluate_every=sheet_every,
            monitor=monitor(collapse),
            writers=writers,
            max_seconds=max_seconds,
            progress=progress,
        )
        return replace(run, model=sampler.calibrated(counts))


def _networks(data: ImageSet, recipe: Preset, seed: int) -> Networks:
    """Build what the recipe describes, from numbers of this seed alone."""
    channels, height, width = (int(side) for side in data.images.shape[1:])
    shape: dict[str, Any] = {"channels": channels, "size": (height, width)}
    return (
        build(
            lambda: Generator(
                len(data.names),
                latent_size=recipe.latent_size,
                width=recipe.generator_width,
                max_width=recipe.generator_max_width,
                blocks=recipe.generator_blocks,
                headroom=recipe.headroom,
                **shape,
            ),
            generator=training.generator(seed, 0, "weights of the generator"),
        ),
        build(
            lambda: Discriminator(
                len(data.names),
                width=recipe.discriminator_width,
                max_width=recipe.discriminator_max_width,
                spectral_norm=recipe.spectral_norm,
                **shape,
            ),
            generator=training.generator(seed, 0, "weights of the discriminator"),
        ),
    )


def _checked_networks(networks: Networks) -> Networks:
    expected = "a generator and a discriminator, two torch modules"
    if len(check_instance("networks", networks, tuple, expected)) != 2:
        raise ValueError(f"`networks` must be {expected}; got {shown(networks)}")
    for network in networks:
        check_instance("networks", network, nn.Module, expected)
    return networks


def _adam(network: nn.Module, rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    # Fused: one kernel for all parameters instead of several an operation.
    return torch.optim.Adam(network.parameters(), lr=rate, betas=betas, fused=True)


def _draw_sheet(state: training.State, sampler: Sampler, folder: Path) -> dict[str, float]:
    """Write the sheet of this step; the latents are those of the seed, at every step."""
    if state.world.is_main:
        shown_classes = sampler.names[:20]
        generator = training.generator(state.seed, 0, "sheet")
        images = sampler.sample(list(shown_classes), n=10, generator=generator)
        folder.mkdir(parents=True, exist_ok=True)
        save_image(sample_sheet(images, shown_classes), folder / f"step-{state.step:08d}.png")
    return {}
