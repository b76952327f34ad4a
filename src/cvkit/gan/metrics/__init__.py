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
from cvkit.gan.metrics.report import Evaluation, Measures, evaluate
from cvkit.gan.metrics.sketch import InkStatistics, ink_statistics, spread, wasserstein

__all__ = [
    "ClassAccuracy",
    "DensityCoverage",
    "Evaluation",
    "InkStatistics",
    "KernelDistance",
    "Measures",
    "Memorization",
    "PrecisionRecall",
    "classification_accuracy",
    "density_coverage",
    "evaluate",
    "frechet_distance",
    "ink_statistics",
    "kernel_distance",
    "memorization",
    "precision_recall",
    "spread",
    "wasserstein",
]
