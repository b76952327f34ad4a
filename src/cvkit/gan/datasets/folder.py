"""Sets from arrays and from folders of image files, one folder a class."""

from __future__ import annotations
