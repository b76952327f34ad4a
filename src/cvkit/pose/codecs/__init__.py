"""Codecs: key points in input pixels to targets of a loss, and network outputs back to key points."""

from __future__ import annotations

from cvkit.pose.codecs.base import Codec, Keypoints, Targets
from cvkit.pose.codecs.gaussian import GaussianCodec, UDPCodec
from cvkit.pose.codecs.integral import IntegralCodec, expectation
from cvkit.pose.codecs.onehot import OneHotCodec
from cvkit.pose.codecs.peaks import Peaks, find_peaks
from cvkit.pose.codecs.simcc import SimCCCodec, SimCCHead
from cvkit.pose.codecs.softmax import SoftmaxCodec

__all__ = [
    "Codec",
    "GaussianCodec",
    "IntegralCodec",
    "Keypoints",
    "OneHotCodec",
    "Peaks",
    "SimCCCodec",
    "SimCCHead",
    "SoftmaxCodec",
    "Targets",
    "UDPCodec",
    "expectation",
    "find_peaks",
]
