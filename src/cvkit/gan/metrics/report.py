"""One call that measures a generator, and the table it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from cvkit._checks import check_instance, check_integer
from cvkit.gan.datasets.folder import DataLike, as_image_set
from cvkit.gan.datasets.imageset import ImageSet
from cvkit.gan.judge import Judge
from cvkit.gan.metrics.classification import by_class, classification_accuracy
from cvkit.gan.metrics.distances import frechet_distance, kernel_distance
from cvkit.gan.metrics.neighbours import (
    DensityCoverage,
    Memorization,
    PrecisionRecall,
    density_coverage,
    memorization,
    precision_recall,
)
from cvkit.gan.metrics.sketch import ink_statistics, spread
from cvkit.gan.pretrained import pretrained_judge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cvkit._types import Array, ArrayLike

__all__ = ["Evaluation", "Measures", "evaluate"]


@runtime_checkable
class SamplesClasses(Protocol):
    """What draws images of classes, as `cvkit.gan.Sampler` does."""

    @property
    def names(self) -> Sequence[str]:
        """The class names."""
        ...

    def sample(self, labels: int | str, n: int = 1, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw n uint8 images of a class."""
        ...


class Measures(NamedTuple):
    """What one set of drawings scores against real ones."""

    recognized: float
    worst_class: float
    frechet: float
    kernel: float
    precision: float
    recall: float
    density: float
    coverage: float
    worst_coverage: float
    variety: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a generator scores, beside what real drawings score against real drawings.

    Parameters
    ----------
    fake : Measures
        Of the samples, against one half of the real set.
    floor : Measures
        Of the other half of the real set, against the same half: what no generator can beat.
    recognized_by_class : mapping of str to float
        Share of samples of each class that the judge takes for it.
    coverage_by_class : mapping of str to float
        Coverage of each class by its own samples.
    chance : float
        Share that guessing would recognise.
    ink : mapping of str to float
        Mean ink statistics of the samples.
    real_ink : mapping of str to float
        Of the reals.
    ink_distances : mapping of str to float
        How far apart the two distributions are.
    gan_train : float or None
        Accuracy on reals of a classifier trained on samples.
    gan_test : float or None
        Accuracy on samples of a classifier trained on reals.
    memorization : Memorization or None
        Distance to the training set beside that of unseen reals.
    n : int
        Samples, and reals, that the measures are taken on.
    """

    fake: Measures
    floor: Measures
    recognized_by_class: Mapping[str, float]
    coverage_by_class: Mapping[str, float]
    chance: float
    ink: Mapping[str, float]
    real_ink: Mapping[str, float]
    ink_distances: Mapping[str, float]
    gan_train: float | None
    gan_test: float | None
    memorization: Memorization | None
    n: int

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain dictionaries and numbers, for JSON."""
        return {
            "n": self.n,
            "chance": self.chance,
            "fake": self.fake._asdict(),
            "floor": self.floor._asdict(),
            "recognized_by_class": dict(self.recognized_by_class),
            "coverage_by_class": dict(self.coverage_by_class),
            "ink": dict(self.ink),
            "real_ink": dict(self.real_ink),
            "ink_distances": dict(self.ink_distances),
            "gan_train": self.gan_train,
            "gan_test": self.gan_test,
            "memorization": None if self.memorization is None else self.memorization._asdict(),
        }

    def table(self) -> str:
        """Return a table in plain text: a line a measure, samples beside reals."""
        lines = [f"{'':24}{'samples':>10}{'reals':>10}   (n = {self.n}, chance {self.chance:.3f})"]
        lines += [
            f"{name.replace('_', ' '):24}{mine:>10.4g}{floor:>10.4g}"
            for name, mine, floor in zip(Measures._fields, self.fake, self.floor, strict=True)
        ]
        lines += [f"{'ink: ' + name:24}{value:>10.4g}{self.real_ink[name]:>10.4g}" for name, value in self.ink.items()]
        for name, value in (("GAN-train", self.gan_train), ("GAN-test", self.gan_test)):
            lines += [] if value is None else [f"{name:24}{value:>10.4g}"]
        if self.memorization is not None:
            lines.append(f"{'memorization ratio':24}{self.memorization.ratio:>10.4g}{1:>10}")
            lines.append(f"{'near copies':24}{self.memorization.copies:>10.4g}{0.01:>10}")
        worst = sorted(self.recognized_by_class, key=lambda name: self.recognized_by_class[name])[:3]
        lines.append("least recognised: " + ", ".join(f"{name} {self.recognized_by_class[name]:.2f}" for name in worst))
        return "\n".join(lines)


def evaluate(
    model: SamplesClasses | DataLike,
    real: DataLike,
    *,
    judge: Judge | None = None,
    features: Callable[[Array], ArrayLike] | None = None,
    train: DataLike | None = None,
    n: int | None = None,
    classifier_steps: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Measure a generator, or a set of its samples, against real drawings that it was not trained on.

    The real set is split in two halves, class by class. Samples, as many and of the same classes, are measured
    against the first half, and so is the second half: the floor. Recognition tells what is drawn, ink statistics how
    cleanly, coverage and variety whether a class is more than one picture; none of them alone tells whether a
    generator is good.

    Parameters
    ----------
    model : Sampler, ImageSet, or tuple of images and labels
        What samples, by class name; or samples.
    real : ImageSet, or tuple of images and labels
        Real drawings, best a test split.
    judge : Judge, optional
        Recognises classes and gives features. Default: the shipped one, if it knows all classes.
    features : callable, optional
        From uint8 images to features (N, D). Default: the judge's.
    train : ImageSet, or tuple of images and labels, optional
        The training set: adds the memorisation ratio.
    n : int, optional
        Samples to measure, spread over the classes as the reals are. Default: half of the reals.
    classifier_steps : int, default 0
        Train classifiers for so many steps for GAN-train and GAN-test; 0 leaves these two out.
    seed : int, default 0
        Of the samples, of the halves and of the classifiers.
    progress : bool, default False
        Show bars on a terminal.

    Returns
    -------
    Evaluation
        All measures, with the floor.

    Raises
    ------
    ValueError
        If there are too few reals, or no judge knows the classes.

    Examples
    --------
    >>> from cvkit import gan
    >>> train, test = gan.quickdraw.generate(["sun", "ladder"], 80).split(test=0.5)
    >>> judge = gan.train_classifier(train, steps=30, batch_size=32)
    >>> result = gan.evaluate(train, test, judge=judge)
    >>> bool(result.fake.recognized > 0.8), result.n
    (True, 40)
    """
    reals = as_image_set(real)
    judge = _judge_of(judge, reals.names)
    seed = check_integer("seed", seed, minimum=0)
    first, second = _halves(reals, n, seed)
    if len(first) < 12:
        raise ValueError(f"`real` must hold at least 24 drawings, and `n` be at least 12; got {len(reals)}")
    fakes = _samples(model, first, seed)
    extract = judge.features if features is None else features
    seen = {name: np.asarray(extract(part.images)) for name, part in (("a", first), ("b", second), ("fake", fakes))}
    fake, recognized, coverage = _measures(first, fakes, judge, seen["a"], seen["fake"], progress)
    floor, _, _ = _measures(first, second, judge, seen["a"], seen["b"], progress)
    ink, real_ink = ink_statistics(fakes.images), ink_statistics(first.images)
    gan_train = gan_test = remembered = None
    if check_integer("classifier_steps", classifier_steps, minimum=0):
        gan_train = classification_accuracy(fakes, reals, steps=classifier_steps, seed=seed).accuracy
        gan_test = classification_accuracy(reals, fakes, steps=classifier_steps, seed=seed).accuracy
    if train is not None:
        remembered = memorization(extract(as_image_set(train).images), seen["fake"], seen["a"], progress=progress)
    return Evaluation(
        fake,
        floor,
        recognized,
        coverage,
        chance=1.0 / len(judge.names),
        ink=ink.summary(),
        real_ink=real_ink.summary(),
        ink_distances=ink.distances(real_ink),
        gan_train=gan_train,
        gan_test=gan_test,
        memorization=remembered,
        n=len(fakes),
    )


def _judge_of(judge: Judge | None, names: Sequence[str]) -> Judge:
    if judge is not None:
        return check_instance("judge", judge, Judge)
    shipped = pretrained_judge()
    unknown = [name for name in names if name not in shipped.names]
    if unknown:
        raise ValueError(
            f"`judge` must be given: the shipped one does not know {unknown[0]!r}; "
            "train one on drawings that the generator was not trained on, by `train_classifier`"
        )
    return shipped


def _halves(reals: ImageSet, n: int | None, seed: int) -> tuple[ImageSet, ImageSet]:
    """Return two disjoint parts of equal class counts, each of about `n` rows or half of all."""
    share = 0.5 if n is None else min(0.5, check_integer("n", n, minimum=1) / max(1, len(reals)))
    first, second = [], []
    for label in range(len(reals.names)):
        rows = np.flatnonzero(reals.labels == label)
        rows = rows[np.random.default_rng([seed, label]).permutation(len(rows))]
        count = int(len(rows) * share)
        first.append(rows[:count])
        second.append(rows[count : 2 * count])
    return reals[np.concatenate(first)], reals[np.concatenate(second)]


def _samples(model: SamplesClasses | DataLike, like: ImageSet, seed: int) -> ImageSet:
    """Return samples with the class counts of `like`."""
    if isinstance(model, SamplesClasses):
        generator = torch.Generator().manual_seed(seed)
        parts = [
            model.sample(name, int(count), generator=generator).cpu().numpy()
            for name, count in zip(like.names, like.counts, strict=True)
            if count
        ]
        images = np.concatenate(parts)
        images = images[:, 0] if like.images.ndim == 3 and images.ndim == 4 else images
        return ImageSet(images, np.repeat(np.arange(len(like.names)), like.counts), like.names)
    given = as_image_set(model).select(like.names)
    rows = []
    for label, count in enumerate(like.counts):
        mine = np.flatnonzero(given.labels == label)
        if len(mine) < count:
            raise ValueError(f"`model` must hold {count} samples of {like.names[label]!r}; got {len(mine)}")
        rows.append(mine[np.random.default_rng([seed, label]).permutation(len(mine))[:count]])
    return given[np.concatenate(rows)]


def _measures(
    real: ImageSet, fake: ImageSet, judge: Judge, a: Array, b: Array, progress: bool
) -> tuple[Measures, dict[str, float], dict[str, float]]:
    correct = judge.recognized(fake)
    share = by_class(correct, fake.labels, len(fake.names))
    coverage = {}
    for label, name in enumerate(real.names):
        mine, theirs = a[real.labels == label], b[fake.labels == label]
        if len(mine) > 5 and len(theirs):
            coverage[name] = density_coverage(mine, theirs).coverage
    pr: PrecisionRecall = precision_recall(a, b, progress=progress)
    dc: DensityCoverage = density_coverage(a, b, progress=progress)
    variety = np.nanmean(spread(fake.images, fake.labels)) / np.nanmean(spread(real.images, real.labels))
    measures = Measures(
        share.accuracy,
        share.worst,
        frechet_distance(a, b),
        kernel_distance(a, b, progress=progress).value,
        pr.precision,
        pr.recall,
        dc.density,
        dc.coverage,
        min(coverage.values(), default=float("nan")),
        float(variety),
    )
    return measures, dict(zip(fake.names, map(float, share.by_class), strict=True)), coverage
