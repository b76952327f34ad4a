from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvkit.imgops import MODES, OPERATORS
from cvkit.imgops.modes import BLEND, COVERING, KEEPING
from reference.imgops_compositing import NON_SEPARABLE, SEPARABLE
from reference.imgops_compositing import OPERATORS as SHARES
from strategies import SEEDS


def values(seed, channels=3):
    rng = np.random.default_rng(seed)
    grid = rng.integers(0, 9, (2, 4, channels, 3, 5)) / 8
    return grid[0], grid[1]


def test_the_names_are_those_of_the_recommendation():
    assert set(MODES) == {*SEPARABLE, *NON_SEPARABLE}
    assert set(OPERATORS) == set(SHARES)
    assert len(MODES) == 16
    assert len(OPERATORS) == 13


def test_which_operators_keep_the_backdrop_and_which_cover():
    assert {name for name, share in SHARES.items() if share(0, 0.3)[1] == 1} == KEEPING
    opaque = {name for name, (fa, fb) in ((n, s(0.3, 1)) for n, s in SHARES.items()) if 0.3 * fa + fb >= 1}
    assert opaque == COVERING


@given(SEEDS, st.sampled_from(sorted(SEPARABLE)))
def test_separable_modes_are_the_formulas(seed, mode):
    b, s = values(seed)
    expected = np.vectorize(SEPARABLE[mode], otypes=[float])(b, s)
    np.testing.assert_allclose(BLEND[mode](b, s), expected, atol=1e-12)


@given(SEEDS, st.sampled_from(sorted(NON_SEPARABLE)))
def test_non_separable_modes_are_the_formulas(seed, mode):
    b, s = values(seed)
    result = BLEND[mode](b, s)
    for n, y, x in np.ndindex(4, 3, 5):
        expected = NON_SEPARABLE[mode](list(b[n, :, y, x]), list(s[n, :, y, x]))
        np.testing.assert_allclose(result[n, :, y, x], np.array(expected, float), atol=1e-12)


@given(SEEDS, st.sampled_from(["multiply", "screen", "darken", "lighten", "difference", "exclusion"]))
def test_symmetric_modes(seed, mode):
    b, s = values(seed)
    np.testing.assert_allclose(BLEND[mode](b, s), BLEND[mode](s, b), atol=1e-15)


@given(SEEDS)
def test_dual_modes(seed):
    b, s = values(seed)
    for one, other in (("multiply", "screen"), ("darken", "lighten"), ("color-dodge", "color-burn")):
        np.testing.assert_allclose(BLEND[one](b, s), 1 - BLEND[other](1 - b, 1 - s), atol=1e-12)


@pytest.mark.parametrize(
    ("mode", "neutral"),
    [("multiply", 1), ("screen", 0), ("darken", 1), ("lighten", 0), ("color-dodge", 0), ("color-burn", 1),
     ("hard-light", 0.5), ("soft-light", 0.5), ("difference", 0), ("exclusion", 0)],
)  # fmt: skip
def test_neutral_sources_leave_the_backdrop(mode, neutral):
    b, _ = values(3)
    np.testing.assert_allclose(BLEND[mode](b, b * 0 + neutral), b, atol=1e-15)


@pytest.mark.parametrize("mode", MODES)
def test_nan_stays_nan(mode):
    b, s = values(4)
    b[0, 0, 0, 0] = s[1, 1, 1, 1] = np.nan
    result = BLEND[mode](b, s)
    assert np.isnan(result[1, 1, 1, 1])
    assert np.isnan(result[0, 0, 0, 0]) or mode == "normal"
    assert np.isfinite(result[2:]).all()
