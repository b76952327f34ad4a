from __future__ import annotations

import numpy as np
import pytest

from cvkit.imgops import COLORMAPS, colormap, rgb_to_lab, rgb_to_oklab
from cvkit.imgops._spaces import mix
from cvkit.imgops.colormaps import _CURVES, _walk, curve, table_of

RAMPS = ["ember", "lagoon"]


def lab(name, levels=256):
    return rgb_to_lab(curve(name, levels)[None])[0]


@pytest.mark.parametrize("name", RAMPS)
def test_neighbours_are_equally_far_apart_in_oklab(name):
    steps = np.linalg.norm(np.diff(rgb_to_oklab(curve(name, 256)[None])[0], axis=0), axis=1)
    assert steps.max() / steps.min() < 1.001


def test_both_halves_of_the_signed_map_are_even_and_meet_in_the_middle():
    points = rgb_to_oklab(curve("balance", 257)[None])[0]
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert steps.max() / steps.min() < 1.02
    assert points[128, 0] > 0.96
    assert np.abs(points[128, 1:]).max() < 0.01
    assert np.abs(points[:, 0] - points[::-1, 0]).max() < 0.02


@pytest.mark.parametrize("name", RAMPS)
def test_rounded_tables_stay_even_over_a_few_levels(name):
    points = rgb_to_oklab(colormap(name)[None])[0].astype(float)
    steps = np.linalg.norm(points[8:] - points[:-8], axis=1)
    assert steps.max() / steps.min() < 1.25


@pytest.mark.parametrize("name", [*RAMPS, "gray"])
def test_lightness_grows_all_the_way(name):
    lightness = lab(name)[:, 0]
    assert (np.diff(lightness) > 0).all()
    assert lightness[0] < 5
    assert lightness[-1] > 95
    assert (np.diff(rgb_to_lab(colormap(name)[None])[0][:, 0]) >= -0.3).all()  # rounding to 8 bits


@pytest.mark.parametrize("name", list(_CURVES))
def test_no_colour_of_a_curve_leaves_the_gamut(name):
    from cvkit.imgops._spaces import _LMS_TO_RGB, _OKLAB_TO_LMS

    path = np.concatenate([_walk(arm) for arm in _CURVES[name]])[:, :, None, None]
    light = mix(mix(path, _OKLAB_TO_LMS) ** 3, _LMS_TO_RGB)
    assert light.min() >= 0
    assert light.max() <= 1


def test_grey_is_the_plain_ramp():
    assert np.array_equal(colormap("gray"), np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1))


@pytest.mark.parametrize("name", COLORMAPS)
def test_every_map_is_a_fresh_table_of_bytes(name):
    table = colormap(name, levels=5)
    assert (table.shape, table.dtype) == ((5, 3), np.uint8)
    table[:] = 0
    assert colormap(name, levels=5).any()


def test_tables_of_ones_own_are_taken():
    table = np.array([[0, 0, 0], [255, 0, 51]], np.uint8)
    assert np.array_equal(table_of(table), [[0, 0, 0], [1, 0, 0.2]])
    assert np.array_equal(table_of(table / 255), table_of(table))


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        ("jet", ValueError, "`colormap` must be one of 'ember'"),
        (7, TypeError, "a name or an array"),
        (np.zeros((5, 4)), ValueError, r"shape \(K, 3\)"),
        (np.zeros((1, 3)), ValueError, "K >= 2"),
        (np.full((2, 3), 1.5), ValueError, r"\[0, 1\]"),
        (np.full((2, 3), np.nan), ValueError, r"\[0, 1\]"),
        (np.zeros((2, 3), np.int32), TypeError, "uint8 or floats"),
    ],
)
def test_wrong_tables_are_refused(table, error, words):
    with pytest.raises(error, match=words):
        table_of(table)


def test_wrong_names_and_levels_are_refused():
    with pytest.raises(ValueError, match="`name` must be one of"):
        colormap("jet")
    with pytest.raises(ValueError, match="`levels` must be at least 2"):
        colormap(levels=1)
