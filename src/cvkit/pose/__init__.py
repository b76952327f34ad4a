"""Landmarks with stacked hourglasses: networks, codecs, losses, augmentation, training, prediction and exact measures.

Places are ``(x, y)`` in pixels with centres at integers, sizes ``(height, width)``.

>>> import torch
>>> from cvkit import pose
>>> network = pose.StackedHourglass(joints=16, stacks=2, features=32)  # (N, 3, H, W) -> (N, S, J, H/4, W/4)
>>> codec = pose.GaussianCodec(input_size=(256, 192), heatmap_size=(64, 48))
>>> found = codec.decode(network(torch.zeros(1, 3, 256, 192))[:, -1])
>>> found.keypoints.shape, found.scores.shape
(torch.Size([1, 16, 2]), torch.Size([1, 16]))
"""

from __future__ import annotations

from cvkit.pose.augment import Augmentation, Draws, Sample
from cvkit.pose.codecs import (
    Codec,
    GaussianCodec,
    IntegralCodec,
    Keypoints,
    OneHotCodec,
    Peaks,
    SimCCCodec,
    SimCCHead,
    SoftmaxCodec,
    Targets,
    UDPCodec,
    expectation,
    find_peaks,
)
from cvkit.pose.datasets import (
    Crops,
    LandmarkData,
    read_coco,
    read_deeplabcut,
    read_landmarks,
    read_points_csv,
    read_pts,
    stick_figures,
)
from cvkit.pose.draw import draw_pose, joint_colors
from cvkit.pose.hourglass import StackedHourglass, fold_batch_norm
from cvkit.pose.losses import (
    adaptive_wing,
    coordinate_loss,
    js_divergence,
    kl_divergence,
    masked_mse,
    ohkm_mse,
    variance_regularizer,
)
from cvkit.pose.metrics import (
    EPE,
    NME,
    PCK,
    CocoAP,
    NMEResult,
    PCKCurve,
    PCKh,
    PCKResult,
    coco_evaluate,
    oks,
    reference_length,
)
from cvkit.pose.predict import Estimator, Prediction
from cvkit.pose.preprocess import Preprocess
from cvkit.pose.published import load_published
from cvkit.pose.skeleton import Skeleton
from cvkit.pose.skeletons import (
    AFLW19,
    COCO17,
    COCO_WHOLEBODY,
    COFW29,
    FACE68,
    HAND21,
    LSP,
    MPII,
    SKELETONS,
    STICK_FIGURE,
    WFLW98,
)
from cvkit.pose.train import Recipe, fit

__all__ = [
    # Networks
    "StackedHourglass",
    "fold_batch_norm",
    "load_published",
    # Codecs
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
    # Losses
    "adaptive_wing",
    "coordinate_loss",
    "js_divergence",
    "kl_divergence",
    "masked_mse",
    "ohkm_mse",
    "variance_regularizer",
    # Measures
    "CocoAP",
    "EPE",
    "NME",
    "NMEResult",
    "PCK",
    "PCKCurve",
    "PCKResult",
    "PCKh",
    "coco_evaluate",
    "oks",
    "reference_length",
    # Skeletons
    "AFLW19",
    "COCO17",
    "COCO_WHOLEBODY",
    "COFW29",
    "FACE68",
    "HAND21",
    "LSP",
    "MPII",
    "SKELETONS",
    "STICK_FIGURE",
    "Skeleton",
    "WFLW98",
    # Data and augmentation
    "Augmentation",
    "Crops",
    "Draws",
    "LandmarkData",
    "Sample",
    "read_coco",
    "read_deeplabcut",
    "read_landmarks",
    "read_points_csv",
    "read_pts",
    "stick_figures",
    # Training and prediction
    "Estimator",
    "Prediction",
    "Preprocess",
    "Recipe",
    "draw_pose",
    "fit",
    "joint_colors",
]
