"""Measures of landmark quality, as accumulators with ``update``, ``merge`` and ``compute``."""

from __future__ import annotations

from cvkit.pose.metrics.coco import CocoAP, coco_evaluate, oks
from cvkit.pose.metrics.distances import reference_length
from cvkit.pose.metrics.errors import EPE, NME, NMEResult
from cvkit.pose.metrics.pck import PCK, PCKCurve, PCKh, PCKResult

__all__ = [
    "EPE",
    "NME",
    "PCK",
    "CocoAP",
    "NMEResult",
    "PCKCurve",
    "PCKResult",
    "PCKh",
    "coco_evaluate",
    "oks",
    "reference_length",
]
