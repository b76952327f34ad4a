from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.gan import quickdraw
from cvkit.gan.metrics import ink_statistics, spread, wasserstein


def line(width, rows=28, columns=40):
    image = np.zeros((1, rows, columns), np.uint8)
    image[0, 5 : 5 + width] = 255
    return image


@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_the_width_of_a_straight_stroke_is_its_width(width):
    assert ink_statistics(line(width)).width[0] == pytest.approx(width)


@pytest.mark.parametrize("pen", [8.0, 16.0, 32.0])
@pytest.mark.parametrize("end", [(255, 0), (255, 90), (255, 255), (30, 255)])
def test_the_width_of_a_drawn_line_is_its_pens_at_any_angle(pen, end):
    image = quickdraw.rasterize([[np.array([[0, 0], end])]], size=64, line_width=pen)
    assert ink_statistics(image).width[0] == pytest.approx(pen * 64 / (288 + pen), rel=0.2)


def test_shares_of_ink_paper_and_grey():
    image = np.zeros((2, 4, 5), np.uint8)
    image[0, 0] = 255
    image[0, 1, :2] = 100
    stats = ink_statistics(image)
    assert stats.ink.tolist() == pytest.approx([(5 + 2 * 100 / 255) / 20, 0])
    assert stats.paper.tolist() == [13 / 20, 1]
    assert stats.grey.tolist() == [2 / 20, 0]
    assert np.isnan(stats.width[1])
    assert stats.levels[[0, 100, 255]].tolist() == [33 / 40, 2 / 40, 5 / 40]
    assert stats.empty == 0.5
    assert stats.summary()["empty"] == 0.5
    assert ink_statistics(image[1:]).summary()["width"] == 0


def test_statistics_of_a_set_are_no_distance_from_themselves():
    suns = quickdraw.generate(["sun"], 30).images
    stats = ink_statistics(torch.from_numpy(suns[:, None]))
    assert set(stats.distances(stats).values()) == {0.0}
    noisy = np.clip(suns.astype(int) + np.random.default_rng(0).integers(0, 20, suns.shape), 0, 255).astype(np.uint8)
    apart = stats.distances(ink_statistics(noisy))
    assert apart["paper"] > 0.4
    assert apart["levels"] > 5


def test_levels_are_compared_by_how_far_ink_must_move():
    black, grey = (ink_statistics(np.full((1, 3, 3), level, np.uint8)) for level in (0, 10))
    # A blank image has no outline, so no width to compare: a line goes beside it.
    both = [ink_statistics(np.concatenate([line(1, 9, 9), np.full((1, 9, 9), level, np.uint8)])) for level in (0, 10)]
    assert np.abs(np.cumsum(black.levels) - np.cumsum(grey.levels)).sum() == pytest.approx(10)
    assert both[0].distances(both[1])["levels"] == pytest.approx(5)


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (np.zeros((1, 4, 4)), TypeError),
        (np.zeros((0, 4, 4), np.uint8), ValueError),
        (np.zeros((1, 3, 4, 4), np.uint8), ValueError),
    ],
)
def test_other_images_are_refused(images, error):
    with pytest.raises(error, match="images"):
        ink_statistics(images)


numbers = st.lists(st.floats(-100, 100), min_size=1, max_size=12)


@given(numbers, numbers)
def test_wasserstein_is_scipys(a, b):
    stats = pytest.importorskip("scipy.stats")
    assert wasserstein(a, b) == pytest.approx(stats.wasserstein_distance(a, b), abs=1e-9)


def test_wasserstein_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        wasserstein([], [1.0])


def test_spread_of_a_class_is_the_mean_distance_of_its_pairs():
    images = np.zeros((5, 2, 2), np.uint8)
    images[1], images[2] = 10, 40
    assert spread(images, np.array([0, 0, 0, 1, 3])).tolist() == pytest.approx(
        [80 / 3, np.nan, np.nan, np.nan], nan_ok=True
    )
    many = np.random.default_rng(0).integers(0, 256, (300, 6, 6), dtype=np.uint8)
    drawn = spread(many, np.zeros(300, int), pairs=2000)
    assert drawn[0] == pytest.approx(spread(many, np.zeros(300, int), pairs=10**6)[0], rel=0.02)
    assert spread(many[:1].repeat(50, 0), np.zeros(50, int), pairs=10)[0] == 0
