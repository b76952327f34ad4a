"""The table of methods by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from cvkit._checks import shown
from cvkit.explain._method import FunctionMethod, MapFunction, Method
from cvkit.explain.activation import (
    CAM,
    FEM,
    KPCACAM,
    EigenCAM,
    EigenGradCAM,
    ElementWise,
    FinerCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    RefineCAM,
    SegXResCAM,
    ShapleyCAM,
    SmoothGradCAMPlusPlus,
    XGradCAM,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
from cvkit.explain.gradients import (
    Deconvnet,
    FullGrad,
    GuidedBackprop,
    GuidedGradCAM,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
)
from cvkit.explain.perturbation import ISCAM, SSCAM, AblationCAM, GroupCAM, ScoreCAM

__all__ = ["METHODS", "resolve_method"]

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "cam": CAM(),
        "gradcam": GradCAM(),
        "gradcam++": GradCAMPlusPlus(),
        "smoothgradcam++": SmoothGradCAMPlusPlus(),
        "xgradcam": XGradCAM(),
        "hirescam": HiResCAM(),
        "elementwise": ElementWise(),
        "layercam": LayerCAM(),
        "eigencam": EigenCAM(),
        "eigengradcam": EigenGradCAM(),
        "kpcacam": KPCACAM(),
        "fem": FEM(),
        "segxrescam": SegXResCAM(),
        "shapleycam": ShapleyCAM(),
        "finercam": FinerCAM(),
        "refinecam": RefineCAM(),
        "ablationcam": AblationCAM(),
        "scorecam": ScoreCAM(),
        "scorecam-class": ScoreCAM(softmax="class"),
        "sscam": SSCAM(),
        "iscam": ISCAM(),
        "groupcam": GroupCAM(),
        "fullgrad": FullGrad(),
        "saliency": Saliency(),
        "inputxgradient": InputXGradient(),
        "integratedgradients": IntegratedGradients(),
        "smoothgrad": SmoothGrad(),
        "vargrad": SmoothGrad(kind="var"),
        "squaregrad": SmoothGrad(kind="square"),
        "guidedbackprop": GuidedBackprop(),
        "deconvnet": Deconvnet(),
        "guidedgradcam": GuidedGradCAM(),
    }
)
"""Methods with their default constants, by the names that ``method=`` takes."""


def resolve_method(method: str | Method | MapFunction) -> Method:
    """Return the method object for what a user gave."""
    if isinstance(method, Method):
        return method
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {', '.join(map(repr, METHODS))}; got {method!r}")
        return METHODS[method]
    if isinstance(method, type):
        raise TypeError(f"`method` must be an object; got the class {method.__name__}: write {method.__name__}()")
    if callable(method):
        return FunctionMethod(method)
    raise TypeError(f"`method` must be a name, a method object or a function of (A, g); got {shown(method)}")
