"""Conditional generation of small images, first of sketches: data, training, sampling and measures.

Only networks, losses and penalties see images in [-1, 1]; data sets, samples and sheets are uint8.
"""

from __future__ import annotations

from cvkit.gan import datasets, metrics
from cvkit.gan.augment import DiffAugment
from cvkit.gan.cleaning import CleaningReport, clean, cross_fit, dropped_sheet, select_instances
from cvkit.gan.conditioning import ClassProjection, ConditionalBatchNorm2d
from cvkit.gan.datasets import quickdraw as quickdraw  # public; its page is that of cvkit.gan.datasets.quickdraw
from cvkit.gan.draw import sample_sheet
from cvkit.gan.duplicates import find_copies
from cvkit.gan.judge import Judge, SketchClassifier, robustness, train_classifier
from cvkit.gan.latents import truncated_normal
from cvkit.gan.losses import (
    LOSSES,
    AdversarialLoss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    non_saturating_discriminator_loss,
    non_saturating_generator_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
    wasserstein_discriminator_loss,
    wasserstein_generator_loss,
)
from cvkit.gan.metrics.report import Evaluation, evaluate
from cvkit.gan.monitor import diagnose, within_class_spread
from cvkit.gan.nets import Discriminator, Generator
from cvkit.gan.penalties import gradient_penalty, r1_penalty, r2_penalty, smoothness_penalty
from cvkit.gan.presets import PRESETS, Preset, preset
from cvkit.gan.pretrained import pretrained_judge
from cvkit.gan.ranges import to_signed, to_uint8
from cvkit.gan.sample import Sampler
from cvkit.gan.shipped import pretrained
from cvkit.gan.step import gan_step
from cvkit.gan.train import fit

__all__ = [
    "LOSSES",
    "PRESETS",
    "AdversarialLoss",
    "ClassProjection",
    "CleaningReport",
    "ConditionalBatchNorm2d",
    "DiffAugment",
    "Discriminator",
    "Evaluation",
    "Generator",
    "Judge",
    "Preset",
    "Sampler",
    "SketchClassifier",
    "clean",
    "cross_fit",
    "datasets",
    "diagnose",
    "dropped_sheet",
    "evaluate",
    "find_copies",
    "fit",
    "gan_step",
    "gradient_penalty",
    "hinge_discriminator_loss",
    "hinge_generator_loss",
    "least_squares_discriminator_loss",
    "least_squares_generator_loss",
    "metrics",
    "non_saturating_discriminator_loss",
    "non_saturating_generator_loss",
    "preset",
    "pretrained",
    "pretrained_judge",
    "r1_penalty",
    "r2_penalty",
    "relativistic_discriminator_loss",
    "relativistic_generator_loss",
    "robustness",
    "sample_sheet",
    "select_instances",
    "smoothness_penalty",
    "to_signed",
    "to_uint8",
    "train_classifier",
    "truncated_normal",
    "wasserstein_discriminator_loss",
    "wasserstein_generator_loss",
    "within_class_spread",
]
