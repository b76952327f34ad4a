from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from cvkit.imgops import histogram
from cvkit.imgops.distances import DISTANCES
from strategies import SEEDS, random_images

KINDS = [*DISTANCES, "wasserstein"]
SIMILARITIES = {"intersection", "correlation"}


def two(seed, bins=16):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 200, (9, 7)).astype(np.uint8), rng.integers(40, 256, (5, 13)).astype(np.uint8)
    return histogram(a, bins=bins), histogram(b, bins=bins)


@given(random_images(np.uint8, 3))
def test_a_distribution_is_no_distance_from_itself(image):
    h = histogram(image)
    for kind in KINDS:
        np.testing.assert_allclose(h.distance(h, kind), 1 if kind in SIMILARITIES else 0, atol=1e-7)
        np.testing.assert_allclose((h + h).distance(h, kind), 1 if kind in SIMILARITIES else 0, atol=1e-7)


@given(SEEDS)
def test_symmetric_and_bounded(seed):
    a, b = two(seed)
    for kind in set(KINDS) - {"chi-square", "kl"}:
        np.testing.assert_allclose(a.distance(b, kind), b.distance(a, kind), atol=1e-12)
    assert 0 <= a.distance(b, "bhattacharyya")[0] <= 1
    assert 0 <= a.distance(b, "intersection")[0] <= 1
    assert -1 <= a.distance(b, "correlation")[0] <= 1 + 1e-12
    assert a.distance(b, "kl")[0] >= 0


@given(SEEDS)
def test_peer_opencv(seed):
    cv2 = pytest.importorskip("cv2")
    a, b = two(seed)
    p, q = (h.density()[0].astype(np.float32) for h in (a, b))
    for kind, theirs in {
        "chi-square": cv2.HISTCMP_CHISQR,
        "chi-square-alt": cv2.HISTCMP_CHISQR_ALT,
        "bhattacharyya": cv2.HISTCMP_BHATTACHARYYA,
        "intersection": cv2.HISTCMP_INTERSECT,
        "correlation": cv2.HISTCMP_CORREL,
    }.items():
        np.testing.assert_allclose(a.distance(b, kind)[0], cv2.compareHist(p, q, theirs), atol=1e-5)


@given(SEEDS)
def test_peer_scipy(seed):
    stats = pytest.importorskip("scipy.stats")
    a, b = two(seed)
    p, q = a.density()[0], b.density()[0]
    expected = stats.wasserstein_distance(a.centers, b.centers, p, q)
    np.testing.assert_allclose(a.distance(b)[0], expected, atol=1e-9)
    np.testing.assert_allclose(a.distance(b, "kl")[0], stats.entropy(p, q))


def test_shift_is_the_earth_movers_distance():
    image = np.random.default_rng(0).integers(10, 100, (8, 9)).astype(np.uint8)
    assert histogram(image).distance(histogram(image + np.uint8(17)))[0] == pytest.approx(17)


def test_disjoint_distributions():
    a, b = (histogram(np.full((2, 3), v, np.uint8)) for v in (3, 9))
    assert a.distance(b, "intersection").tolist() == [0.0]
    assert a.distance(b, "bhattacharyya").tolist() == [1.0]
    assert a.distance(b, "chi-square-alt").tolist() == [4.0]
    assert a.distance(b, "kl").tolist() == [np.inf]


def test_flat_histograms_correlate_with_each_other_only():
    flat = histogram(np.arange(16, dtype=np.uint8)[None], bins=[0, 8, 16])
    peak = histogram(np.zeros((1, 4), np.uint8), bins=[0, 8, 16])
    assert flat.distance(flat, "correlation").tolist() == [1.0]
    assert flat.distance(peak, "correlation").tolist() == [0.0]


def test_one_channel_compares_with_many_and_errors():
    gray, color = histogram(np.zeros((2, 3), np.uint8)), histogram(np.zeros((2, 3, 3), np.uint8))
    assert color.distance(gray).shape == (3,)
    with pytest.raises(ValueError, match="`kind` must be one of"):
        gray.distance(gray, "emd")
    with pytest.raises(TypeError, match="`other`"):
        gray.distance(gray.counts)
    with pytest.raises(ValueError, match="same bins"):
        gray.distance(histogram(np.zeros((2, 3), np.uint8), bins=5))
