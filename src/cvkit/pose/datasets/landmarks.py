"""Pictures with labelled landmarks: the one form in which all readers give them and training takes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cvkit import geometry
from cvkit._checks import check_instance, check_interval, shown
from cvkit.io import load_image
from cvkit.pose.metrics.distances import to_numpy
from cvkit.pose.preprocess import to_uint8
from cvkit.pose.skeleton import Skeleton

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cvkit._types import Array, Image, StrPath
    from cvkit.pose.preprocess import Preprocess

__all__ = ["Crops", "LandmarkData"]


class Crops(NamedTuple):
    """Pictures cut to a network's input size, with their key points in its pixels.

    Attributes
    ----------
    images : Tensor of shape (N, 3, H, W)
        uint8.
    keypoints : Tensor of shape (N, J, 2)
        float32.
    visibility : Tensor of shape (N, J)
        float32.
    to_photo : Tensor of shape (N, 2, 3)
        float64: from the crop's pixels to the photograph's.
    """

    images: Tensor
    keypoints: Tensor
    visibility: Tensor
    to_photo: Tensor


@dataclass(frozen=True, eq=False)
class LandmarkData:
    """A data set: pictures, places of their landmarks, and what the landmarks are.

    Parameters
    ----------
    images : ndarray of shape (N, H, W, 3), or sequence of paths or images
        uint8 arrays, Pillow images or paths; files are opened when they are needed.
    keypoints : ndarray of shape (N, J, 2)
        Places ``(x, y)`` in each picture's pixels; NaN where unlabelled.
    visibility : ndarray of shape (N, J), optional
        0 unlabelled, 1 hidden, 2 seen (bool or floats do too; > 0 is labelled). By default every finite place is seen.
    skeleton : Skeleton
        The joints.
    boxes : ndarray of shape (N, 4), optional
        ``(left, top, right, bottom)`` of each object, which is then cut out; by default pictures are used whole.

    Raises
    ------
    ValueError
        If lengths or shapes don't fit each other or the skeleton.

    Examples
    --------
    >>> from cvkit.pose import stick_figures
    >>> data = stick_figures(10, size=(32, 32))
    >>> train, test = data.split(test=0.2, seed=1)
    >>> len(train), len(test), train.keypoints.shape
    (8, 2, (8, 11, 2))
    """

    images: Sequence[StrPath | Image] | Array
    keypoints: NDArray[np.float32]
    visibility: NDArray[np.float32]
    skeleton: Skeleton
    boxes: NDArray[np.float64] | None = None

    def __init__(
        self,
        images: Sequence[StrPath | Image] | Array,
        keypoints: Array,
        visibility: Array | None = None,
        *,
        skeleton: Skeleton,
        boxes: Array | None = None,
    ) -> None:
        check_instance("skeleton", skeleton, Skeleton)
        points = np.asarray(to_numpy(keypoints), np.float32)
        wanted = (len(images), len(skeleton), 2)
        if points.shape != wanted:
            raise ValueError(
                f"`keypoints` must be {wanted} for {wanted[0]} pictures and {wanted[1]} joints; got {shown(points)}"
            )
        finite = np.isfinite(points).all(-1)
        given = np.full(wanted[:2], 2) if visibility is None else to_numpy(visibility)
        seen = np.asarray(given, np.float32)
        if seen.shape != wanted[:2]:
            raise ValueError(f"`visibility` must be {wanted[:2]}; got {shown(seen)}")
        if boxes is not None:
            boxes = np.asarray(to_numpy(boxes), np.float64)
            if boxes.shape != (wanted[0], 4):
                raise ValueError(f"`boxes` must be ({wanted[0]}, 4); got {shown(boxes)}")
        for name, value in (
            ("images", images),
            ("keypoints", points),
            ("visibility", np.where(finite, seen, 0).astype(np.float32)),
            ("skeleton", skeleton),
            ("boxes", boxes),
        ):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.images)

    def __getitem__(self, index: slice | Sequence[int] | Array) -> LandmarkData:
        """Return the part with these indices (a slice, integers or booleans)."""
        if not isinstance(index, slice):
            if not hasattr(index, "__len__"):
                raise TypeError(f"`index` must be a slice or several indices, such as data[[0]]; got {shown(index)}")
            index = np.asarray(index) if len(index) else np.zeros(0, np.int64)
        chosen = np.arange(len(self))[index]
        images = self.images[chosen] if isinstance(self.images, np.ndarray) else [self.images[i] for i in chosen]
        return LandmarkData(
            images,
            self.keypoints[chosen],
            self.visibility[chosen],
            skeleton=self.skeleton,
            boxes=None if self.boxes is None else self.boxes[chosen],
        )

    def split(self, *, test: float = 0.2, seed: int = 0) -> tuple[LandmarkData, LandmarkData]:
        """Split at random into a part to train on and one to test on.

        Parameters
        ----------
        test : float, default 0.2
            Share of the second part, in [0, 1]; rounded to whole pictures.
        seed : int, default 0
            Which split.

        Returns
        -------
        tuple of LandmarkData
            Training and test part, each in the original order.
        """
        check_interval("test", test, 0, 1)
        order = np.random.default_rng(seed).permutation(len(self))
        count = int(test * len(self) + 0.5)
        return self[np.sort(order[count:])], self[np.sort(order[:count])]

    def photo(self, index: int) -> Image:
        """Return one picture, opened if it is a file.

        Parameters
        ----------
        index : int
            Which one.

        Returns
        -------
        Pillow image, ndarray or Tensor
            As it came, or RGB from a file.
        """
        image = self.images[index]
        return load_image(image, mode="RGB") if isinstance(image, str | Path) or hasattr(image, "__fspath__") else image

    def crops(self, preprocess: Preprocess, *, progress: Callable[[int], None] | None = None) -> Crops:
        """Cut all pictures to a network's input size, whole or around their boxes.

        Parameters
        ----------
        preprocess : Preprocess
            Says how; nothing is normalised yet.
        progress : callable, optional
            Called with the number of pictures done.

        Returns
        -------
        Crops
            In memory: three bytes a pixel.
        """
        height, width = preprocess.input_size
        images = torch.empty(len(self), 3, height, width, dtype=torch.uint8)
        back = np.zeros((len(self), 2, 3))
        for i in range(len(self)):
            prepared = preprocess.frame(self.photo(i), None if self.boxes is None else self.boxes[i])
            images[i], back[i] = to_uint8(prepared.tensor[0]), prepared.to_photo
            if progress is not None:
                progress(i + 1)
        points = np.zeros_like(self.keypoints, np.float64)
        if len(self):
            points = geometry.transform_points(geometry.invert(back), self.keypoints.astype(np.float64))
        return Crops(
            images,
            torch.from_numpy(points.astype(np.float32)),
            torch.from_numpy(self.visibility.copy()),
            torch.from_numpy(back),
        )

    @property
    def fingerprint(self) -> dict[str, object]:
        """What tells it from other data: count, skeleton, hash of labels and pictures (of files: their names)."""
        digest = hashlib.sha256()
        for part in (self.keypoints, self.visibility, self.boxes):
            if part is not None:
                digest.update(np.ascontiguousarray(part).tobytes())
        for image in self.images:
            digest.update(_identity(image))
        return {"count": len(self), "skeleton": self.skeleton.name, "sha256": digest.hexdigest()}

    def with_skeleton(self, skeleton: Skeleton) -> LandmarkData:
        """Return the same data with another skeleton of as many joints, such as one that has pairs.

        Parameters
        ----------
        skeleton : Skeleton
            The new one.

        Returns
        -------
        LandmarkData
            Sharing the arrays.
        """
        return LandmarkData(self.images, self.keypoints, self.visibility, skeleton=skeleton, boxes=self.boxes)


def _identity(image: StrPath | Image) -> bytes:
    if isinstance(image, str | Path) or hasattr(image, "__fspath__"):
        return Path(image).name.encode()
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
    return hashlib.sha256(np.ascontiguousarray(np.asarray(image)).tobytes()).digest()
