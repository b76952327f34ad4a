from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvkit.imgops import histogram, thresholds
from reference import imgops_histograms as slow
from strategies import SEEDS

COUNTS = st.lists(st.integers(0, 9), min_size=3, max_size=14).filter(lambda c: sum(n > 0 for n in c) > 1)


@given(COUNTS)
def test_otsu_is_the_best_split(counts):
    counts, values = np.array(counts), np.arange(len(counts)) * 1.0
    split = thresholds.otsu_bin(counts, values)
    best = slow.best_splits(counts, values, 2)
    assert slow.between_variance(counts, values, [split]) == pytest.approx(best, abs=1e-12)


@given(COUNTS, st.integers(2, 5))
def test_multi_otsu_is_the_best_choice_of_splits(counts, classes):
    counts, values = np.array(counts), np.arange(len(counts)) * 0.5 - 2
    if len(counts) < classes:
        return
    splits = thresholds.multi_otsu_bins(counts, values, classes)
    assert (np.diff(splits) >= 0).all()
    best = slow.best_splits(counts, values, classes)
    unique = sorted(set(splits.tolist()) - {len(counts) - 1})
    assert slow.between_variance(counts, values, unique) == pytest.approx(best, abs=1e-12)


@given(COUNTS)
def test_multi_otsu_of_two_classes_is_otsu(counts):
    counts, values = np.array(counts), np.arange(len(counts)) * 1.0
    one, two = thresholds.otsu_bin(counts, values), int(thresholds.multi_otsu_bins(counts, values, 2)[0])
    assert slow.between_variance(counts, values, [one]) == pytest.approx(
        slow.between_variance(counts, values, [two]), abs=1e-12
    )


@pytest.mark.fault("scikit-image/scikit-image#6324")
def test_more_classes_than_values():
    image = np.array([[10, 10, 200]], np.uint8)
    assert histogram(image).multi_otsu(3).tolist() == [[10.0, 200.0]]
    assert histogram(image).multi_otsu(5).tolist() == [[10.0, 200.0, 200.0, 200.0]]
    with pytest.raises(ValueError, match="classes"):
        histogram(image).multi_otsu(1)


@pytest.mark.fault("scikit-image/scikit-image#3975")
def test_multi_otsu_of_16_bit_noise_is_quick_and_small():
    counts = np.random.default_rng(0).integers(1, 50, 65536)
    start = time.process_time()
    tracemalloc.start()
    splits = thresholds.multi_otsu_bins(counts, np.arange(65536.0), 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
    assert time.process_time() - start < 10
    np.testing.assert_allclose(splits, [16384, 32768, 49152], atol=300)


@given(COUNTS)
def test_li_is_the_least_cross_entropy(counts):
    counts, values = np.array(counts), np.arange(len(counts)) * 1.0
    split = thresholds.li_bin(counts, values)
    best = min(
        slow.cross_entropy(counts, values, s)
        for s in range(len(counts) - 1)
        if counts[: s + 1].any() and counts[s + 1 :].any()
    )
    assert slow.cross_entropy(counts, values, split) == pytest.approx(best, abs=1e-9)


@given(COUNTS)
def test_triangle_against_the_slow_one(counts):
    assert thresholds.triangle_bin(np.array(counts)) == slow.triangle(counts)


@given(COUNTS)
def test_isodata_is_halfway_between_the_means(counts):
    counts, values = np.array(counts), np.arange(len(counts)) * 1.0
    t = thresholds.isodata_bin(counts, values)
    low = (counts[: t + 1] * values[: t + 1]).sum() / counts[: t + 1].sum()
    high = (counts[t + 1 :] * values[t + 1 :]).sum() / counts[t + 1 :].sum()
    assert t - 1e-9 <= (low + high) / 2 < t + 1 + 1e-9


def bumps(seed):
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(60, 12, 900), rng.normal(170, 20, rng.integers(300, 1500))])
    return np.clip(values, 0, 255).astype(np.uint8)[None]


@given(SEEDS)
def test_peer_scikit_image(seed):
    filters = pytest.importorskip("skimage.filters")
    image = bumps(seed)
    h = histogram(image)
    assert h.otsu()[0] == filters.threshold_otsu(image)
    assert h.yen()[0] == filters.threshold_yen(image)
    assert h.isodata()[0] == filters.threshold_isodata(image)
    assert h.triangle()[0] == filters.threshold_triangle(image)
    # Their minimum smooths in float32, whose rounding decides when to stop: the slow reference judges ours.
    assert h.minimum()[0] == slow.minimum_between_peaks(h.counts[0])
    # Ours is the minimum over all splits, theirs where an iteration stops.
    counts, values = h.counts[0], h.centers
    ours, theirs = (slow.cross_entropy(counts, values, int(t)) for t in (h.li()[0], filters.threshold_li(image)))
    assert ours <= theirs + 1e-6


@given(SEEDS)
def test_peer_scikit_image_multi_otsu(seed):
    filters = pytest.importorskip("skimage.filters")
    image = bumps(seed)
    theirs = filters.threshold_multiotsu(image, 3)
    h = histogram(image)
    ours = h.multi_otsu(3)[0]
    criterion = [slow.between_variance(h.counts[0], h.centers, [int(t) for t in ts]) for ts in (ours, theirs)]
    assert criterion[0] >= criterion[1] - 1e-9


@given(SEEDS)
def test_peer_opencv_otsu(seed):
    cv2 = pytest.importorskip("cv2")
    image = bumps(seed)
    theirs, _ = cv2.threshold(image, 0, 255, cv2.THRESH_OTSU)
    assert histogram(image).otsu()[0] == theirs


@pytest.mark.parametrize("counts", [[5, 5], [1, 2, 3, 4], [0, 3, 3, 3, 0], [4, 3, 2, 1]])
def test_minimum_needs_two_peaks(counts):
    if counts == [5, 5]:
        counts = [5, 5, 0, 0]
    with pytest.raises(ValueError, match="two peaks"):
        thresholds.minimum_bin(np.array(counts))


def test_minimum_between_two_peaks():
    assert thresholds.minimum_bin(np.array([9, 2, 0, 0, 0, 2, 9, 1])) in {2, 3, 4}
    assert thresholds.minimum_bin(np.array([1, 9, 9, 2, 0, 1, 8, 8, 8, 2])) == 4


def test_minimum_of_16_bit_noise_lies_between_the_humps_and_is_found_in_a_second():
    rng = np.random.default_rng(0)
    humps = np.concatenate([rng.normal(15000, 3000, 20000), rng.normal(45000, 4000, 20000)])
    photo = np.clip(humps, 0, 65535).astype(np.uint16).reshape(200, 200)
    started = time.perf_counter()
    found = histogram(photo).minimum()[0]
    assert time.perf_counter() - started < 10  # it took two minutes, and failed
    assert abs(found - histogram(photo, bins=1000).minimum()[0]) < 2000
    assert 22000 < found < 34000


def test_minimum_says_why_it_finds_none():
    with pytest.raises(ValueError, match="this one has 1"):
        thresholds.minimum_bin(np.array([0, 1, 5, 1, 0]))
    with pytest.raises(ValueError, match=r"still [0-9]+: count into fewer bins"):
        thresholds.minimum_bin(np.tile([0, 0, 0, 9], 100), most_passes=2)
