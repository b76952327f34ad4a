"""Sets from arrays and from folders of image files, one folder a class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np

from cvkit._checks import check_choice, check_integer, check_size, shown
from cvkit._errors import DataError
from cvkit.gan.datasets.imageset import ImageSet, _plain, check_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cvkit._types import ArrayLike, Size, StrPath

__all__ = ["LabelledImages", "as_image_set", "from_arrays", "from_folder"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@runtime_checkable
class LabelledImages(Protocol):
    """Anything with uint8 images, integer labels and class names."""

    @property
    def images(self) -> ArrayLike:
        """Images (N, H, W) or (N, C, H, W), uint8."""
        ...

    @property
    def labels(self) -> ArrayLike:
        """Class indices (N,)."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """The class names."""
        ...


DataLike: TypeAlias = "LabelledImages | tuple[ArrayLike, ArrayLike]"


def from_arrays(images: ArrayLike, labels: ArrayLike, names: Sequence[str] | None = None) -> ImageSet:
    """Make a set of arrays or tensors.

    Parameters
    ----------
    images : ndarray or Tensor of shape (N, H, W) or (N, C, H, W)
        uint8.
    labels : ndarray or Tensor of shape (N,)
        Class indices.
    names : sequence of str, optional
        The class names. Default: the numbers up to the largest label, as text.

    Returns
    -------
    ImageSet
        The set; arrays are not copied.

    Examples
    --------
    >>> import numpy as np
    >>> from cvkit.gan.datasets import from_arrays
    >>> from_arrays(np.zeros((2, 3, 16, 20), np.uint8), np.array([0, 2])).names
    ('0', '1', '2')
    """
    plain = _plain(labels)
    if names is None:
        if plain.dtype.kind not in "iu":
            raise TypeError(f"`labels` must be integers; got {shown(plain)}")
        names = [str(i) for i in range(int(plain.max(initial=-1)) + 1)]
    return ImageSet(_plain(images), plain, tuple(names))


def as_image_set(data: DataLike) -> ImageSet:
    """Return `data` as an `ImageSet`, as all functions of `cvkit.gan` that take a set do."""
    if isinstance(data, ImageSet):
        return data
    if isinstance(data, tuple) and len(data) == 2:
        return from_arrays(*data)
    if isinstance(data, LabelledImages):
        return from_arrays(data.images, data.labels, data.names)
    raise TypeError(f"`data` must have images, labels and names, or be a tuple (images, labels); got {shown(data)}")


def from_folder(
    folder: StrPath,
    *,
    size: int | Size = 28,
    channels: int = 1,
    classes: Sequence[str] | None = None,
    invert: bool = False,
) -> ImageSet:
    """Read a folder of image files with one subfolder a class.

    Parameters
    ----------
    folder : path-like
        ``folder/<class>/<anything>.png`` and other formats that `cvkit.io.load_image` reads.
    size : int or (int, int), default 28
        Height and width that every image is brought to: scaled whole into it with its sides' ratio kept, the rest
        filled with its border's median.
    channels : {1, 3, 4}
        Grey, colour, or colour with alpha.
    classes : sequence of str, optional
        Subfolders to read, in this order. Default: all, sorted.
    invert : bool, default False
        Turn values around, for black ink on white paper: Quick, Draw! has white on black.

    Returns
    -------
    ImageSet
        ``images`` (N, H, W), or (N, C, H, W) for more channels than one; files of a class sorted by name.

    Raises
    ------
    DataError
        If the folder holds no class or no image.
    ImageError
        If a file is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from cvkit.gan.datasets import from_folder
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name in ("a", "b"):
    ...         Path(root, name).mkdir()
    ...         Image.new("L", (20, 30)).save(Path(root, name, "0.png"))
    ...     from_folder(root, size=(16, 12))
    ImageSet(2 images of (16, 12), 2 classes)
    """
    root = Path(folder)
    height, width = (size, size) if isinstance(size, int) else check_size("size", size)
    check_integer("size", height, minimum=1)
    check_choice("channels", channels, tuple(_MODES))
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = tuple(found) if classes is None else check_names("classes", classes, tuple(classes))
    images, labels = [], []
    for label, name in enumerate(names):
        files = sorted(p for p in (root / name).glob("*") if p.suffix.lower() in _SUFFIXES)
        if not files:
            raise DataError(f"{root / name}: holds no image file")
        images += [_fitted(path, height, width, channels) for path in files]
        labels += [label] * len(files)
    if not images:
        raise DataError(f"{root}: holds no subfolder of images; expected one a class")
    stacked = np.stack(images)
    return ImageSet(255 - stacked if invert else stacked, np.array(labels), names)


def _fitted(path: Path, height: int, width: int, channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    from PIL import Image

    from cvkit.io import load_image

    picture = load_image(os.fspath(path)).convert(_MODES[channels])
    scale = min(height / picture.height, width / picture.width)
    inner = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # Reducing by area keeps thin lines; enlarging is smooth.
    filter_ = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    small = np.asarray(picture.resize(inner, filter_)).reshape(inner[1], inner[0], channels)
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    out = np.broadcast_to(np.median(border, axis=0).astype(np.uint8), (height, width, channels)).copy()
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    out[top : top + inner[1], left : left + inner[0]] = small
    return out[:, :, 0] if channels == 1 else np.ascontiguousarray(out.transpose(2, 0, 1))
