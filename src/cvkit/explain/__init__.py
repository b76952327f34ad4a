"""Where does a model look? Class activation maps, input attribution, and measures of both.

`explain` is the front door: a model, a batch, and optionally a method, a target and a layer. `capture` is the tool
below it, for people who run the forward themselves, and `cam` holds the arithmetic, usable without a model.
"""

from __future__ import annotations

from cvkit.explain import cam, metrics, synthetic
from cvkit.explain._door import Explanation, explain, explain_many
from cvkit.explain.activation import GradCAM
from cvkit.explain.capture import Capture, capture
from cvkit.explain.listing import LayerInfo, layers
from cvkit.explain.methods import METHODS
from cvkit.explain.targets import (
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
    "METHODS",
    "Capture",
    "Contrast",
    "DetectedBox",
    "EmbeddingSimilarity",
    "Explanation",
    "GradCAM",
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
