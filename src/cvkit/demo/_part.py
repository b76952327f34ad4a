"""What a part of the demo hands to the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from PIL.Image import Image as PILImage

__all__ = ["Part", "Picture", "Value"]

Value = float | int | bool | str | list[float] | list[int] | list[str] | dict[str, float]


@dataclass(frozen=True)
class Picture:
    """A picture of the report: the stem of its file's name, and its caption."""

    name: str
    image: PILImage
    caption: str


@dataclass(frozen=True)
class Part:
    """One part of the demo.

    `results` go to ``results.json`` as they are; `facts` are rows (what, value) of the page's table; `curves` are named
    (x, y) series; `folders` are finished runs, copied below the output folder under the name given.
    """

    key: str
    title: str
    text: str
    results: Mapping[str, Value]
    pictures: Sequence[Picture]
    facts: Sequence[tuple[str, str]] = ()
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    curves_caption: str = ""
    folders: Mapping[str, Path] = field(default_factory=dict)
