"""What a data set may be, and its fingerprint."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union

import numpy as np

from cvkit._checks import shown
from cvkit.gan.datasets import ImageSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import ArrayLike

__all__ = ["Dataset", "LabelledImages", "checked_data", "fingerprint"]


class LabelledImages(Protocol):
    """Anything with images, labels and class names."""

    @property
    def images(self) -> ArrayLike:
        """uint8 (N, H, W) or (N, C, H, W)."""
        ...

    @property
    def labels(self) -> ArrayLike:
        """Integers (N,)."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """The class names."""
        ...


Dataset: TypeAlias = Union[LabelledImages, "tuple[ArrayLike, ArrayLike]"]
"""Images and labels; see `cvkit.gan.fit`."""


def checked_data(data: Dataset) -> ImageSet:
    """Return a data set with images (N, C, H, W) that a generator can learn from, or say what is wrong with it."""
    if isinstance(data, tuple):
        known = _from_pair(data)
    elif isinstance(data, ImageSet):
        known = data
    elif all(hasattr(data, name) for name in ("images", "labels", "names")):
        known = ImageSet(data.images, data.labels, tuple(data.names))  # type: ignore[arg-type]
    else:
        raise TypeError(f"`data` must have images, labels and names, or be (images, labels); got {shown(data)}")
    if min(known.images.shape[-2:]) < 8:
        raise ValueError(f"`data` must hold images of at least 8 x 8; got {shown(known.images)}")
    for name, count in zip(known.names, known.counts, strict=True):
        if not count:
            raise ValueError(f"`data` must hold images of every class; class {name!r} has none")
    images = np.asarray(known.images)
    return ImageSet(images[:, None] if images.ndim == 3 else images, known.labels, known.names)


def fingerprint(data: ImageSet) -> dict[str, Any]:
    """Return what tells one data set from another: a hash of all bytes, shape and classes."""
    digest = hashlib.sha256()
    for values in (data.images, data.labels):
        digest.update(np.ascontiguousarray(values).data)
    shape = [int(side) for side in data.images.shape]
    return {"sha256": digest.hexdigest(), "shape": shape, "classes": list(data.names)}


def _from_pair(data: tuple[ArrayLike, ArrayLike]) -> ImageSet:
    """Name classes by their number, up to the largest label."""
    if len(data) != 2:
        raise ValueError(f"`data` must be images and labels; got a tuple of {len(data)}")
    images, labels = data
    values = np.asarray(labels)
    if values.dtype.kind not in "iu":
        raise TypeError(f"`data` must hold integer labels; got {shown(labels)}")
    if not values.size:
        raise ValueError("`data` must hold at least one image")
    names = tuple(str(label) for label in range(int(values.max()) + 1))
    return ImageSet(images, labels, names)  # type: ignore[arg-type]
