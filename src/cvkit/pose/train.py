"""Training of landmark networks: `fit` turns a data set into an estimator, exactly repeatable and resumable."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from cvkit import training
from cvkit._checks import check_instance, check_integer, check_interval
from cvkit.pose.augment import Augmentation, Draws
from cvkit.pose.codecs import Codec, GaussianCodec, SimCCCodec, SimCCHead, SoftmaxCodec
from cvkit.pose.datasets.landmarks import LandmarkData
from cvkit.pose.hourglass import StackedHourglass
from cvkit.pose.metrics import EPE, PCK, reference_length
from cvkit.pose.metrics.distances import to_numpy
from cvkit.pose.predict import Estimator
from cvkit.pose.preprocess import Preprocess, photo_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cvkit._types import ArrayLike, StrPath
    from cvkit.pose.skeleton import Skeleton

__all__ = ["Recipe", "fit"]

_IN_MEMORY = 2 * 2**30  # bytes of cut-out pictures; more are cut anew for each batch


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Everything that depends on progress counts pictures seen, never steps.

    Parameters
    ----------
    learning_rate : float, default 0.005
        Of Adam.
    warmup : int, default 2000
        Pictures over which the rate rises from 0.
    horizon : int, default 200_000
        Pictures after which the rate has fallen to a fiftieth, along half a cosine; it stays there.
    half_life : int, default 2000
        Half-life in pictures of the averaged weights that are kept and predict; 0 keeps the trained ones.
    weight_decay : float, default 0.0
        Decoupled (AdamW).
    clip : float, default 10.0
        Largest norm of the gradient.
    augmentation : Augmentation, optional
        By default turning by up to 60 degrees, scaling, shifting, mirroring (`fit` refuses it where it would mix left
        and right) and colour; ``None`` does nothing.
    collapse_after : int, default 50_000
        Pictures after which a network whose peaks are below a twentieth of the targets' is given up
        (`DivergenceError`): it has learned to say nothing. 0 never.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from cvkit.pose import Recipe
    >>> recipe = Recipe(learning_rate=1e-3, warmup=100)
    >>> recipe.rate(50), recipe.rate(100)
    (0.0005, 0.001)
    """

    learning_rate: float = 5e-3
    warmup: int = 2000
    horizon: int = 200_000
    half_life: int = 2000
    weight_decay: float = 0.0
    clip: float = 10.0
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    collapse_after: int = 50_000

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.augmentation is not None:
            check_instance("augmentation", self.augmentation, Augmentation)
        check_interval("learning_rate", self.learning_rate, 0, low_open=True)
        check_interval("weight_decay", self.weight_decay, 0)
        check_interval("clip", self.clip, 0, low_open=True)
        for name in ("warmup", "half_life", "collapse_after"):
            check_integer(name, getattr(self, name), minimum=0)
        check_integer("horizon", self.horizon, minimum=self.warmup + 1)

    def rate(self, images: int) -> float:
        """Return the learning rate after so many pictures.

        Parameters
        ----------
        images : int
            Pictures seen.

        Returns
        -------
        float
            Rising to `learning_rate`, then falling to a fiftieth of it.
        """
        if images < self.warmup:
            return self.learning_rate * images / self.warmup
        done = min(1.0, (images - self.warmup) / (self.horizon - self.warmup))
        return self.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)


def fit(
    train: LandmarkData | tuple[ArrayLike, ...],
    *,
    out: StrPath,
    model: nn.Module | None = None,
    codec: Codec | None = None,
    skeleton: Skeleton | None = None,
    preprocess: Preprocess | None = None,
    valid: LandmarkData | tuple[ArrayLike, ...] | None = None,
    recipe: Recipe | None = None,
    steps: int = 2000,
    seed: int = 0,
    batch_size: int = 16,
    resume: Literal["auto", "never", "require"] = "auto",
    checkpoint_every: int = 500,
    log_every: int = 50,
    evaluate_every: int | None = None,
    device: torch.device | str = "cpu",
    precision: Literal["float32", "bfloat16", "auto"] = "float32",
    max_seconds: float | None = None,
    writers: Sequence[Callable[[training.Row], None]] = (),
    progress: bool = True,
) -> training.Run[Estimator]:
    """Train a network on landmarks.

    Parameters
    ----------
    train : LandmarkData, or tuple of arrays
        Pictures with labels; or ``(images (N, H, W, 3), keypoints (N, J, 2))`` or the same with visibility ``(N, J)``,
        and `skeleton`. Images as a tensor are ``(N, 3, H, W)``.
    out : str or path-like
        Folder of the run: checkpoints and ``log.csv``. A run that was cut off goes on from there.
    model : Module, optional
        Gives ``(N, S, ...)`` outputs for the codec; trained in place. By default a small `StackedHourglass` of one
        stack (for a `SimCCCodec` in a `SimCCHead`).
    codec : Codec, optional
        By default a `SoftmaxCodec` with maps of a quarter of the input size, which learns fastest from few pictures.
    skeleton : Skeleton, optional
        By default that of `train`.
    preprocess : Preprocess, optional
        By default the codec's input size without normalisation; where there is no codec either, 64 x 64 if the first
        picture is hardly larger than that, else 96 x 96.
    valid : LandmarkData or tuple of arrays, optional
        Unseen data of the same joints, measured every `evaluate_every` steps and at the end: ``valid_pck`` (at 0.1 of
        the longer side of the box around the labels) and ``valid_epe`` (input pixels).
    recipe : Recipe, optional
        How it is trained; by default ``Recipe()``, with twice its learning rate for the default network.
    steps : int, default 2000
        When to stop. No schedule depends on it.
    seed : int, default 0
        The same seed gives the same bytes.
    batch_size : int, default 16
        Pictures a step, over all processes.
    resume : {'auto', 'never', 'require'}, default 'auto'
        Go on from a checkpoint in `out` if there is one; refuse one; insist on one.
    checkpoint_every : int, default 500
        Steps between checkpoints; the last step is always saved.
    log_every : int, default 50
        Steps between rows of the log.
    evaluate_every : int, optional
        Steps between measurements on `valid`; by default at the end alone.
    device : torch.device or str, default "cpu"
        Where to train; the network must be there.
    precision : {'float32', 'bfloat16', 'auto'}, default 'float32'
        Of the forward pass; losses are always in float32.
    max_seconds : float, optional
        Stop, saved, after so long.
    writers : sequence of callable, optional
        Called with every row of the log.
    progress : bool, default True
        Whether to show a bar if standard error is a terminal.

    Returns
    -------
    Run
        ``model`` (an `Estimator` with the averaged weights), ``history``, ``directory``.

    Raises
    ------
    ValueError
        If parts don't fit each other, or mirroring would mix left and right.
    CheckpointError
        If `out` belongs to another run.
    DivergenceError
        If a number is not finite, or the heatmaps have collapsed to nothing.

    Examples
    --------
    >>> import tempfile
    >>> from cvkit import pose
    >>> data = pose.stick_figures(16, size=(32, 32))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     codec = pose.GaussianCodec((32, 32), (8, 8), sigma=1.0)
    ...     model = pose.StackedHourglass(11, stacks=1, depth=1, features=8)
    ...     run = pose.fit(data, model=model, codec=codec, out=folder, steps=2, batch_size=4)
    ...     again = pose.Estimator.load(folder)
    >>> again.predict(data.images[:3]).keypoints.shape
    (3, 11, 2)
    """
    data = _landmarks(train, skeleton)
    if recipe is None:
        recipe = Recipe() if model is not None else Recipe(learning_rate=0.01)
    check_instance("recipe", recipe, Recipe)
    unseen = None if valid is None else _unseen(valid, data.skeleton)
    codec, preprocess = _codec_and_preprocess(data, codec, preprocess)
    if recipe.augmentation is not None and recipe.augmentation.flip:
        data.skeleton.check_flip()
    with training.processes(device) as world:
        if model is None:
            model = _default_model(codec, len(data.skeleton)).to(world.device)
        check_instance("model", model, nn.Module, "a torch module")
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        average = training.Average(model) if recipe.half_life else None
        network = model if average is None else average.module
        state = training.State(
            modules={"network": model},
            optimizers={"network": optimizer},
            averages={} if average is None else {"network": average},
            seed=seed,
            batch_size=batch_size,
            precision=precision,
            world=world,
        )
        estimator = Estimator(network, codec, data.skeleton, preprocess)
        sampler = training.ResumableSampler(len(data), batch_size, seed=seed)
        run = training.train(
            state,
            _Step(codec, preprocess, recipe, data.skeleton),
            training.Sampled(sampler, _fetcher(data, preprocess, world.device), world),
            model=estimator,
            out=out,
            steps=steps,
            meta={
                "kind": "pose",
                "estimator": cast("training.Json", estimator.config),
                "averaged": average is not None,
            },
            fingerprint=cast(
                "dict[str, training.Json]",
                {"recipe": asdict(recipe), "data": data.fingerprint, "model": estimator.config},
            ),
            resume=resume,
            checkpoint_every=checkpoint_every,
            log_every=log_every,
            evaluate=None if unseen is None or not len(unseen) else _evaluator(estimator, unseen, world.device),
            evaluate_every=evaluate_every,
            monitor=_collapse_detector(recipe, codec),
            max_seconds=max_seconds,
            writers=writers,
            progress=progress,
        )
    network.eval()
    return run


def _landmarks(train: LandmarkData | tuple[ArrayLike, ...], skeleton: Skeleton | None) -> LandmarkData:
    data = _data("train", train, skeleton)
    if not len(data):
        raise ValueError("`train` must hold at least one picture; got none")
    if not (data.visibility > 0).any():
        raise ValueError("`train` must hold at least one labelled joint; got none")
    return data


def _unseen(valid: LandmarkData | tuple[ArrayLike, ...], skeleton: Skeleton) -> LandmarkData:
    data = _data("valid", valid, None if isinstance(valid, LandmarkData) else skeleton)
    if len(data.skeleton) != len(skeleton):
        raise ValueError(f"`valid` must have the {len(skeleton)} joints of `train`; got {len(data.skeleton)}")
    return data


def _data(name: str, value: LandmarkData | tuple[ArrayLike, ...], skeleton: Skeleton | None) -> LandmarkData:
    if isinstance(value, LandmarkData):
        return value if skeleton is None else value.with_skeleton(skeleton)
    check_instance(name, value, tuple, "LandmarkData or (images, keypoints[, visibility])")
    if len(value) not in {2, 3}:
        raise ValueError(
            f"`{name}` must be (images, keypoints) or (images, keypoints, visibility); got {len(value)} parts"
        )
    if skeleton is None:
        raise ValueError("`skeleton` must be given with a tuple of arrays")
    first = value[0]
    planes = isinstance(first, Tensor) and (first.ndim == 3 or (first.ndim == 4 and first.shape[1] <= 4))
    images = list(cast("Tensor", first).cpu()) if planes else to_numpy(first)
    return LandmarkData(images, *(to_numpy(part) for part in value[1:]), skeleton=skeleton)


def _codec_and_preprocess(
    data: LandmarkData, codec: Codec | None, preprocess: Preprocess | None
) -> tuple[Codec, Preprocess]:
    if preprocess is None:
        side = 64 if max(photo_size(data.photo(0))) < 96 else 96
        preprocess = Preprocess((side, side) if codec is None else codec.input_size)
    if codec is None:
        height, width = preprocess.input_size
        codec = SoftmaxCodec((height, width), (-(-height // 4), -(-width // 4)))
    return codec, preprocess


def _default_model(codec: Codec, joints: int) -> nn.Module:
    """Return a one-stack hourglass that goes down to about 2 x 2 places."""
    height, width = codec.input_size
    depth = max(1, min(4, int(math.log2(max(min(height, width) // 8, 2)))))
    features = 32 if max(height, width) <= 64 else 48 if max(height, width) <= 128 else 128
    network = StackedHourglass(codec.channels(joints), stacks=1, depth=depth, features=features)
    return SimCCHead(network, codec, (-(-height // 4), -(-width // 4))) if isinstance(codec, SimCCCodec) else network


@dataclass(frozen=True)
class _Step:
    """One step of training: augment, encode on the device, forward, loss, update."""

    codec: Codec
    preprocess: Preprocess
    recipe: Recipe
    skeleton: Skeleton

    def __call__(self, state: training.State, batch: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        network = state.modules["network"]
        images, keypoints, visibility = batch["images"].float() / 255, batch["keypoints"], batch["visibility"]
        augmentation = self.recipe.augmentation
        if augmentation is not None:
            # Drawn for the whole batch; each process takes its part.
            whole = augmentation.draw(state.batch_size, state.generator("augmentation"))
            draws = Draws(*(state.share(values) for values in whole))
            images, keypoints, visibility = augmentation.apply(
                images, keypoints, visibility, draws, skeleton=self.skeleton
            )
        targets = self.codec.encode(keypoints, visibility)
        with state.autocast():
            outputs = network(self.preprocess.normalize(images).to(memory_format=torch.channels_last))
        if outputs.ndim == targets.heatmaps.ndim:
            raise ValueError(
                "`model` must give outputs with an axis of stacks after the first, (N, S, ...), of length 1 if it has "
                f"none; got {tuple(outputs.shape)}"
            )
        part = _part(targets.weights, state.world)
        loss = self.codec.loss(outputs, targets) * part
        rate = self.recipe.rate(state.images)
        for group in state.optimizers["network"].param_groups:
            group["lr"] = rate
        result = training.update(state, "network", loss, clip=self.recipe.clip)
        if "network" in state.averages:
            decay = training.half_life_decay(
                state.batch_size, half_life=min(self.recipe.half_life, state.images / 20 + 1)
            )
            state.averages["network"].update(network, decay=decay)
        row: dict[str, Tensor | float] = {"loss": result.loss, "gradient_norm": result.gradient_norm, "rate": rate}
        if outputs.ndim == 5 and isinstance(self.codec, GaussianCodec):
            row["peak"] = _peak(outputs[:, -1].detach(), targets.weights) * part
        return row


def _part(weights: Tensor, world: training.World) -> Tensor:
    """Return this process's weight of labels over the processes' mean, 1 on one process.

    Losses are means over the labelled joints of a process; their mean, so weighted, is that over the whole batch.
    """
    own = weights.sum()
    mean = world.mean(own)
    return torch.where(mean > 0, own / mean, 1.0)


def _peak(heatmaps: Tensor, labelled: Tensor) -> Tensor:
    """Return the mean height of the labelled joints' peaks: 1 is perfect, 0 says nothing."""
    return (heatmaps.float().amax((-2, -1)) * labelled).sum() / labelled.sum().clamp_min(1)


def _fetcher(
    data: LandmarkData, preprocess: Preprocess, device: torch.device
) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """Return what fetches a batch: from memory where all crops fit, otherwise cut out anew."""
    height, width = preprocess.input_size

    def cut(part: LandmarkData) -> dict[str, Tensor]:
        crops = part.crops(preprocess)
        return {"images": crops.images, "keypoints": crops.keypoints, "visibility": crops.visibility}

    if len(data) * 3 * height * width <= _IN_MEMORY:
        return training.InMemory(cut(data), device)
    return lambda indices: {name: value.to(device) for name, value in cut(data[indices.numpy()]).items()}


def _evaluator(
    estimator: Estimator, valid: LandmarkData, device: torch.device
) -> Callable[[training.State], dict[str, float]]:
    """Return what measures the estimator on unseen crops, in input pixels."""
    crops = valid.crops(estimator.preprocess)

    @torch.no_grad()
    def evaluate(_: training.State) -> dict[str, float]:
        estimator.network.eval()
        pck, epe = PCK(0.1), EPE()
        for start in range(0, len(valid), 64):
            part = slice(start, start + 64)
            images = estimator.preprocess.normalize(crops.images[part].to(device).float() / 255)
            outputs = estimator.network(images.to(memory_format=torch.channels_last))[:, -1]
            found = estimator.codec.decode(outputs).keypoints
            labels, seen = crops.keypoints[part], crops.visibility[part]
            length = reference_length("box_max", labels, seen)
            length = np.where(np.isfinite(length) & (length > 0), length, 1.0)
            pck.update(found, labels, seen, normalizer=length)
            epe.update(found, labels, seen)
        return {"valid_pck": pck.compute().mean, "valid_epe": epe.compute()}

    return evaluate


def _collapse_detector(recipe: Recipe, codec: Codec) -> Callable[[training.State, training.Row], str | None] | None:
    """Return the check that heatmaps say something once enough pictures were seen."""
    if not recipe.collapse_after or not isinstance(codec, GaussianCodec):
        return None

    def monitor(state: training.State, row: training.Row) -> str | None:
        peak = row.get("peak")
        if state.images >= recipe.collapse_after and peak is not None and peak < 0.05:
            return f"the heatmaps have collapsed: their peaks are {peak:.3f} of the targets'; lower the learning rate"
        return None

    return monitor
