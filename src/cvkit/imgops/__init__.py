"""Take images apart by their histogram, edit them, blend them back: on Pillow images, arrays and tensors alike."""

from __future__ import annotations

from cvkit.imgops.adaptive import clahe
from cvkit.imgops.color import (
    lab_to_rgb,
    linear_to_srgb,
    luma,
    oklab_to_rgb,
    rgb_to_lab,
    rgb_to_oklab,
    srgb_to_linear,
)
from cvkit.imgops.color_transfer import transfer_color
from cvkit.imgops.colormaps import COLORMAPS, colormap
from cvkit.imgops.compositing import composite
from cvkit.imgops.dissolving import dissolve
from cvkit.imgops.drawing import draw_lines, draw_points, draw_text
from cvkit.imgops.equalization import equalize, equalize_lut
from cvkit.imgops.filters import feather, gaussian_blur, resize
from cvkit.imgops.fitted import autocontrast, autocontrast_lut, threshold
from cvkit.imgops.heatmap import apply_colormap, overlay
from cvkit.imgops.histogram_pictures import draw_histogram
from cvkit.imgops.histograms import Histogram, histogram
from cvkit.imgops.joint_histograms import JointHistogram, joint_histogram
from cvkit.imgops.luts import Lut
from cvkit.imgops.matching import match_histograms, match_lut, specify_histogram
from cvkit.imgops.modes import MODES, OPERATORS
from cvkit.imgops.poisson import poisson_blend
from cvkit.imgops.pyramids import collapse_pyramid, laplacian_pyramid, pyramid_blend
from cvkit.imgops.regions import blend_by_masks, tone_masks
from cvkit.imgops.sheets import contact_sheet, watermark
from cvkit.imgops.soft import soft_equalize, soft_histogram, soft_match
from cvkit.imgops.tone import curve, gamma, invert, levels, log, posterize, sigmoid, solarize

__all__ = [
    # Histograms
    "Histogram",
    "JointHistogram",
    "draw_histogram",
    "histogram",
    "joint_histogram",
    "soft_histogram",
    # Tone
    "Lut",
    "autocontrast",
    "autocontrast_lut",
    "clahe",
    "curve",
    "equalize",
    "equalize_lut",
    "gamma",
    "invert",
    "levels",
    "log",
    "match_histograms",
    "match_lut",
    "posterize",
    "sigmoid",
    "soft_equalize",
    "soft_match",
    "solarize",
    "specify_histogram",
    "threshold",
    "transfer_color",
    # Apart and together
    "blend_by_masks",
    "tone_masks",
    # Blending, colour, drawing
    "COLORMAPS",
    "MODES",
    "OPERATORS",
    "apply_colormap",
    "collapse_pyramid",
    "colormap",
    "composite",
    "contact_sheet",
    "dissolve",
    "draw_lines",
    "draw_points",
    "draw_text",
    "feather",
    "gaussian_blur",
    "lab_to_rgb",
    "laplacian_pyramid",
    "linear_to_srgb",
    "luma",
    "oklab_to_rgb",
    "overlay",
    "poisson_blend",
    "pyramid_blend",
    "resize",
    "rgb_to_lab",
    "rgb_to_oklab",
    "srgb_to_linear",
    "watermark",
]
