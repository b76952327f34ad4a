"""Measures of maps."""

from __future__ import annotations

from cvkit.explain.metrics.localization import energy_in_mask, pointing_game

__all__ = ["energy_in_mask", "pointing_game"]
