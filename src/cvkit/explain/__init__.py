"""Where does a model look? Class activation maps, input attribution, and measures of both.

`explain` is the front door: a model, a batch, and optionally a method, a target and a layer. `capture` is the tool
below it, for people who run the forward themselves, and `cam` holds the arithmetic, usable without a model.
"""

from __future__ import annotations

from cvkit.explain import cam, metrics, synthetic
from cvkit.explain._door import Explanation, explain, explain_many
from cvkit.explain._method import Method
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
from cvkit.explain.capture import Capture, capture
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
from cvkit.explain.listing import LayerInfo, layers
from cvkit.explain.methods import METHODS
from cvkit.explain.perturbation import ISCAM, SSCAM, AblationCAM, GroupCAM, ScoreCAM
from cvkit.explain.targets import (
    Comparison,
    Contrast,
    DetectedBox,
    EmbeddingSimilarity,
    LogitPlusLogProbability,
    Probability,
    Region,
    Target,
)
from cvkit.explain.tokens import Tokens
from cvkit.imgops import overlay

__all__ = [
    "CAM",
    "FEM",
    "KPCACAM",
    "EigenCAM",
    "EigenGradCAM",
    "ElementWise",
    "FinerCAM",
    "GradCAM",
    "GradCAMPlusPlus",
    "HiResCAM",
    "LayerCAM",
    "RefineCAM",
    "SegXResCAM",
    "ShapleyCAM",
    "SmoothGradCAMPlusPlus",
    "XGradCAM",
    "Deconvnet",
    "FullGrad",
    "GuidedBackprop",
    "GuidedGradCAM",
    "InputXGradient",
    "IntegratedGradients",
    "Saliency",
    "SmoothGrad",
    "ISCAM",
    "SSCAM",
    "AblationCAM",
    "GroupCAM",
    "ScoreCAM",
    "Method",
    "METHODS",
    "Capture",
    "Comparison",
    "Contrast",
    "DetectedBox",
    "EmbeddingSimilarity",
    "Explanation",
    "LayerInfo",
    "LogitPlusLogProbability",
    "Probability",
    "Region",
    "Target",
    "Tokens",
    "cam",
    "capture",
    "explain",
    "explain_many",
    "layers",
    "metrics",
    "overlay",
    "synthetic",
]
