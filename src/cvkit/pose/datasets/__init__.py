"""Landmark data: generated stick figures, and readers of labelled folders."""

from __future__ import annotations

from cvkit.pose.datasets.landmarks import Crops, LandmarkData
from cvkit.pose.datasets.readers import read_coco, read_deeplabcut, read_landmarks, read_points_csv, read_pts
from cvkit.pose.datasets.stick import stick_figures

__all__ = [
    "Crops",
    "LandmarkData",
    "read_coco",
    "read_deeplabcut",
    "read_landmarks",
    "read_points_csv",
    "read_pts",
    "stick_figures",
]
