"""Explain, landmark, generate and edit images: typed building blocks for PyTorch.

Four submodules do the four jobs: `cvkit.explain` (where does a model look?), `cvkit.pose` (landmarks with a stacked
hourglass), `cvkit.gan` (conditional generation, first of sketches) and `cvkit.imgops` (histograms, tone, blending).
They are imported on first use, so that ``import cvkit`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from cvkit import explain, gan, geometry, imgops, io, pose, training, weights

__all__ = ["__version__", "explain", "gan", "geometry", "imgops", "io", "pose", "training", "weights"]

__version__ = "0.1.0"

_SUBMODULES = frozenset(__all__) - {"__version__"}


def __getattr__(name: str) -> ModuleType:
    """Import a submodule on first use (PEP 562)."""
    if name in _SUBMODULES:
        return import_module(f"cvkit.{name}")
    raise AttributeError(f"module 'cvkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | _SUBMODULES)
