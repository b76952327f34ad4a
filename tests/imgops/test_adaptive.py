from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.imgops import clahe
from reference import imgops_histograms as slow
from strategies import SEEDS, random_images

GRIDS = st.tuples(st.integers(1, 9), st.integers(1, 9))
LIMITS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.7, 40.0])


@given(random_images(np.uint8, None), GRIDS, LIMITS)
def test_against_the_slow_one(image, grid, limit):
    assert (clahe(image, clip_limit=limit, grid_size=grid) == slow.clahe(image, limit, *grid)).all()


def smooth(seed, shape, dtype):
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    field = np.cumsum(np.cumsum(rng.normal(size=shape), 0), 1)
    unit = (field - field.min()) / max(np.ptp(field), 1e-9)
    return np.floor(unit * rng.uniform(0.1, 1) * top).astype(dtype)


@pytest.mark.fault("scikit-image/scikit-image#2219")
@given(SEEDS, st.tuples(st.integers(8, 40), st.integers(8, 40)), GRIDS, LIMITS)
def test_peer_opencv_8_bit(seed, shape, grid, limit):
    cv2 = pytest.importorskip("cv2")
    image = smooth(seed, shape, np.uint8)
    theirs = cv2.createCLAHE(limit, grid[::-1]).apply(image)
    assert (clahe(image, clip_limit=limit, grid_size=grid) == theirs).all()


@pytest.mark.slow
def test_peer_opencv_8_bit_every_size_and_grid():
    cv2 = pytest.importorskip("cv2")
    for height, grid in itertools.product(range(8, 41), range(1, 10)):
        for width, other in ((8, grid), (height + 3, 10 - grid), (40, 3)):
            image = smooth(height * width, (height, width), np.uint8)
            theirs = cv2.createCLAHE(2.0, (other, grid)).apply(image)
            assert (clahe(image, grid_size=(grid, other)) == theirs).all(), (height, width, grid, other)


@pytest.mark.fault("opencv/opencv#4770")
@pytest.mark.parametrize("limit", [0.0, 2.0, 500.0])
@pytest.mark.parametrize("grid", [(1, 1), (3, 2), (8, 8)])
def test_peer_opencv_16_bit(grid, limit):
    cv2 = pytest.importorskip("cv2")
    image = smooth(5, (37, 41), np.uint16)
    theirs = cv2.createCLAHE(limit, grid[::-1]).apply(image)
    assert (clahe(image, clip_limit=limit, grid_size=grid) == theirs).all()


@pytest.mark.fault("opencv/opencv#25837")
def test_even_spread_reaches_the_top_bins():
    # All counts in one bin: everything above the limit is shared out; with a remainder above half the bins OpenCV's
    # rule leaves the upper bins without.
    image = np.full((14, 14), 100, np.uint8)
    image[0, 0] = 255
    opencv, even = (clahe(image, clip_limit=1.0, grid_size=(1, 1), spread=s) for s in ("opencv", "even"))
    assert even[0, 0] == opencv[0, 0] == 255
    assert abs(int(even[5, 5]) - 100) <= 2 < abs(int(opencv[5, 5]) - 100)


@given(SEEDS, LIMITS)
def test_the_spread_conserves_counts(seed, limit):
    from cvkit.imgops.adaptive import Tiling, _clipped

    counts = np.random.default_rng(seed).integers(0, 60, (3, 50))
    for spread in ("opencv", "even"):
        for row in counts:
            after = _clipped(row[None], int(row.sum()), Tiling((1, 1), limit, spread, 50, 1))
            assert after.sum() == row.sum()


@pytest.mark.fault("opencv/opencv#5953")
def test_16_bit_with_256_bins_looks_like_8_bit():
    image = smooth(1, (48, 64), np.uint8)
    wide = image.astype(np.uint16) * 257
    eight = clahe(image, grid_size=(3, 4)).astype(int) * 257
    assert np.abs(clahe(wide, grid_size=(3, 4), bins=256) - eight).max() <= 257
    assert np.abs(clahe(wide, grid_size=(3, 4)) - eight).max() > 2000


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_constant_and_tiny_images(dtype):
    for shape in ((1, 1), (1, 7), (7, 1), (7, 7)):
        image = np.full(shape, 0.5 if dtype == "float64" else 128, dtype)
        out = clahe(image)
        assert (out == out[0, 0]).all()
        assert np.isfinite(out).all()


def test_raises_local_contrast():
    image = smooth(3, (64, 64), np.uint8) // 8 + np.uint8(100)
    assert clahe(image, clip_limit=4.0, grid_size=(4, 4)).std() > 2 * image.std()


@given(st.integers(0, 2), SEEDS)
def test_floats_are_the_integers_unrounded(kind, seed):
    image = smooth(seed, (21, 19), np.uint8)
    real = image / 255.0
    out = clahe(
        real if kind == 0 else torch.from_numpy(real).to([None, torch.float64, torch.float32][kind]), grid_size=(2, 3)
    )
    assert np.abs(np.asarray(out) * 255 - clahe(image, grid_size=(2, 3))).max() <= 1 + 1e-3


def test_floats_in_blocks_are_the_same():
    image = np.random.default_rng(0).random((300, 400))
    whole = clahe(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(clahe(image), whole, atol=1e-12)


def test_ranges():
    image = smooth(2, (30, 30), np.uint8)
    shifted = image.astype(np.int16) - 100
    assert (clahe(shifted, data_range=(-100, 155)) == clahe(image).astype(np.int16) - 100).all()
    wide = image.astype(np.int32) * 1000
    out = clahe(wide, data_range=(0, 255000))
    assert out.dtype == np.int32
    assert np.abs(out / 1000 - clahe(image / 255.0, bins=256) * 255).max() < 12


@pytest.mark.parametrize(
    "options",
    [{"clip_limit": -1}, {"grid_size": (0, 3)}, {"grid_size": (3,)}, {"by": "hue"}, {"spread": "none"}, {"bins": 1}],
)
def test_wrong_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        clahe(np.zeros((8, 8), np.uint8), **options)


@pytest.mark.parametrize(("dtype", "grid"), [(np.uint8, (2000, 2000)), (np.uint16, (64, 64))])
def test_more_tiles_than_memory_holds_are_refused(dtype, grid):
    with pytest.raises(ValueError, match=rf"`grid_size` of {grid[0]} x {grid[1]} tiles with \d+ bins is too much"):
        clahe(np.zeros((20, 30), dtype), grid_size=grid)
