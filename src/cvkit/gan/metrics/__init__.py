"""Measures of a generator over any features: distances, neighbours, classifiers, ink."""

from __future__ import annotations

from cvkit.gan.metrics.classification import ClassAccuracy, classification_accuracy
from cvkit.gan.metrics.distances import KernelDistance, frechet_distance, kernel_distance
from cvkit.gan.metrics.neighbours import (
    DensityCoverage,
    Memorization,
    PrecisionRecall,
    density_coverage,
    memorization,
    precision_recall,
)
from cvkit.gan.metrics.report import Measures
from cvkit.gan.metrics.sketch import InkStatistics, ink_statistics, spread, wasserstein

__all__ = [
    "ClassAccuracy",
    "DensityCoverage",
    "InkStatistics",
    "KernelDistance",
    "Measures",
    "Memorization",
    "PrecisionRecall",
    "classification_accuracy",
    "density_coverage",
    "frechet_distance",
    "ink_statistics",
    "kernel_distance",
    "memorization",
    "precision_recall",
    "spread",
    "wasserstein",
]
