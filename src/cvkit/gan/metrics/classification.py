"""Classification accuracy: what a classifier learns from one set is worth on another.

References
----------
K. Shmelkov et al., "How good is my GAN?", 2018, arXiv:1807.09499 (GAN-train and GAN-test).
S. Ravuri and O. Vinyals, "Classification Accuracy Score for Conditional Generative Models", 2019, arXiv:1905.10887.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cvkit.gan.datasets.folder import DataLike, as_image_set
from cvkit.gan.judge import train_classifier

if TYPE_CHECKING:
    from cvkit._types import Array

__all__ = ["ClassAccuracy", "classification_accuracy"]


class ClassAccuracy(NamedTuple):
    """Accuracy over all rows, of each class (K,) (NaN for a class without rows), and of the worst class."""

    accuracy: float
    by_class: Array
    worst: float


def classification_accuracy(
    train: DataLike, test: DataLike, *, steps: int = 500, seed: int = 0, batch_size: int = 128
) -> ClassAccuracy:
    """Train a small classifier on one set and test it on another.

    Trained on fakes and tested on reals (GAN-train) it says whether samples are right *and* varied enough to learn
    from; trained on reals and tested on fakes (GAN-test) whether they are what they were asked to be. Compare with
    real on real.

    Parameters
    ----------
    train : ImageSet, or tuple of images and labels
        What to learn from.
    test : ImageSet, or tuple of images and labels
        What to classify; classes are matched by name.
    steps : int, default 500
        Training steps.
    seed : int, default 0
        Of the training.
    batch_size : int, default 128
        Images a step.

    Returns
    -------
    ClassAccuracy
        ``.accuracy``, ``.by_class`` in the order of the training set's classes, ``.worst``.

    Raises
    ------
    ValueError
        If a set is empty or a class of the test set is none of the training set's.

    References
    ----------
    Shmelkov et al. 2018, arXiv:1807.09499, section 3.

    Examples
    --------
    >>> from cvkit import gan
    >>> from cvkit.gan.metrics import classification_accuracy
    >>> train, test = gan.quickdraw.generate(["sun", "ladder"], 60).split(test=0.5)
    >>> bool(classification_accuracy(train, test, steps=40, batch_size=32).worst > 0.7)
    True
    """
    judge = train_classifier(train, steps=steps, seed=seed, batch_size=batch_size)
    known = judge.matched(as_image_set(test))
    if not len(known):
        raise ValueError("`test` must hold at least one image")
    return by_class(judge.predict(known.images) == known.labels, known.labels, len(known.names))


def by_class(correct: Array, labels: Array, classes: int) -> ClassAccuracy:
    """Return the mean of `correct` over all rows, of each class, and of the worst class that has rows."""
    counts = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels, np.asarray(correct, np.float64), classes)
    shares = np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)
    return ClassAccuracy(float(np.mean(correct)), shares, float(np.nanmin(shares)))
