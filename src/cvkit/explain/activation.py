"""The CAM family as method objects: each holds the constants of a function in `cvkit.explain.cam`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cvkit.explain import cam
from cvkit.explain._method import ActivationMethod

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GradCAM"]


@dataclass(frozen=True)
class GradCAM(ActivationMethod):
    """Grad-CAM: see `cam.gradcam`.

    Examples
    --------
    >>> GradCAM()
    GradCAM()
    """

    def map(self, A: Tensor, g: Tensor) -> Tensor:
        """Return the raw map ``(N, *S)`` of one layer."""
        return cam.gradcam(A, g)
