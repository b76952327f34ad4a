"""Labelled sets of small images: from arrays, from folders, and from Quick, Draw! files."""

from __future__ import annotations

from cvkit.gan.datasets import quickdraw
from cvkit.gan.datasets.folder import from_arrays, from_folder
from cvkit.gan.datasets.imageset import ImageSet, Split

__all__ = ["ImageSet", "Split", "from_arrays", "from_folder", "quickdraw"]
