from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from cvkit.imgops import Histogram, histogram
from reference import imgops_histograms as slow
from strategies import SEEDS, arrays, random_images


def total(image):
    return image.shape[0] * image.shape[1]


@given(random_images(np.uint8))
def test_8_bit_counts_every_level_of_every_colour(image):
    h = histogram(image)
    channels = 1 if image.ndim == 2 else image.shape[2]
    planes = image.reshape(*image.shape[:2], -1)
    colors = channels - (channels in {2, 4})
    assert h.counts.shape == (colors, 256)
    assert h.counts.dtype == np.int64
    assert h.discrete
    for c in range(colors):
        assert h.counts[c].tolist() == np.bincount(planes[..., c].ravel(), minlength=256).tolist()
    assert (h.total == total(image)).all()


@pytest.mark.fault("opencv/opencv#504")
def test_full_white_is_counted():
    assert histogram(np.full((3, 4), 255, np.uint8)).counts[0, 255] == 12
    assert histogram(np.full((3, 4), 255, np.uint8), bins=[0, 100, 255]).counts[0].tolist() == [0, 12]
    assert histogram(np.ones((3, 4)), bins=10).counts[0, 9] == 12


@given(arrays(np.float64, None), st.integers(1, 40))
@example(np.array([[0.29, 0.1 * 3, 0.57, 0.58, 1.0, 0.0]]), 100)
def test_floats_are_counted_as_the_edges_say(image, bins):
    h = histogram(image, bins=bins)
    assert h.counts[0].tolist() == np.histogram(image, bins, (0, 1))[0].tolist()
    assert h.edges.tolist() == np.linspace(0, 1, bins + 1).tolist()


@given(arrays(np.float32, None), st.integers(2, 9))
def test_floats_against_the_slow_count(image, bins):
    wild = np.append(image.ravel() * 3 - 1, [np.nan, np.inf, -np.inf])[None].astype(np.float32)
    h = histogram(wild, bins=bins)
    assert h.counts[0].tolist() == slow.count([float(v) for v in wild.ravel()], 0.0, 1.0, bins)
    assert h.missing.tolist() == [1]
    assert h.total[0] == wild.size - 1


@given(random_images(np.uint16, None), st.integers(2, 30))
def test_16_bit(image, bins):
    assert histogram(image).counts[0].tolist() == np.bincount(image.ravel(), minlength=65536).tolist()
    h = histogram(image, bins=bins)
    assert h.counts[0].tolist() == np.histogram(image, h.edges)[0].tolist()
    assert not h.discrete


@pytest.mark.fault("python-pillow/Pillow#6106")
def test_pillow_16_bit_has_a_bin_a_level():
    image = Image.fromarray(np.array([[0, 300, 65535]], np.uint16))
    assert np.flatnonzero(histogram(image).counts[0]).tolist() == [0, 300, 65535]
    assert histogram(image, bins=512).counts.shape == (1, 512)


def test_ranges():
    image = np.array([[-300, -5, 0, 5, 300]], np.int16)
    h = histogram(image, data_range=(-10, 10))
    assert h.counts.shape == (1, 21)
    assert h.counts[0, [0, 5, 10, 15, 20]].tolist() == [1, 1, 1, 1, 1]
    assert histogram(image, bins=[-400, 0, 400]).counts[0].tolist() == [2, 3]
    wide = np.array([[-100000, 0, 100000]], np.int32)
    assert histogram(wide, data_range=(-100000, 100000)).counts.shape == (1, 256)
    assert histogram(wide, data_range=(-100000, 100000), bins=2).counts[0].tolist() == [1, 2]
    assert histogram(np.array([[0.2, 5.0]]), data_range=(0, 10), bins=10).counts[0].tolist() == [
        1,
        0,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
    ]


def test_uneven_edges():
    image = np.array([[0.05, 0.1, 0.3, 0.9, 5.0, -3.0]])
    assert histogram(image, bins=[0.0, 0.1, 0.5, 1.0]).counts[0].tolist() == [2, 2, 2]
    levels = np.arange(256, dtype=np.uint8)[None]
    assert histogram(levels, bins=[0, 10, 100, 256]).counts[0].tolist() == [10, 90, 156]


@given(random_images(np.uint8, 3), SEEDS)
def test_masks_select_and_parts_add_up(image, seed):
    mask = np.random.default_rng(seed).random(image.shape[:2]) > 0.5
    whole = histogram(image)
    parts = histogram(image, mask=mask) + histogram(image, mask=~mask)
    assert (parts.counts == whole.counts).all()
    chosen = image[mask]
    for c in range(3):
        assert histogram(image, mask=mask).counts[c].tolist() == np.bincount(chosen[:, c], minlength=256).tolist()
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert (histogram(tensor, mask=torch.from_numpy(mask)).counts == histogram(image, mask=mask).counts).all()
    assert (histogram(image / 255.0, mask=mask).counts == histogram(image, mask=mask).counts).all()


@given(random_images(np.uint8, 3), SEEDS)
def test_weights(image, seed):
    weights = np.random.default_rng(seed).random(image.shape[:2])
    for kind in (image, (image * 257.0).astype(np.uint16), image / 255.0):
        h = histogram(kind, bins=16, weights=weights)
        assert h.counts.dtype == np.float64
        for c in range(3):
            expected = np.bincount(image[..., c].ravel() // 16, weights.ravel(), minlength=16)
            np.testing.assert_allclose(h.counts[c], expected, atol=1e-12)
    half = histogram(image, weights=np.full(image.shape[:2], 51, np.uint8))
    np.testing.assert_allclose(half.counts, histogram(image).counts / 5)


def test_wrong_weights():
    image = np.zeros((2, 3), np.uint8)
    for weights in (np.full((2, 3), -1.0), np.full((2, 3), np.nan)):
        with pytest.raises(ValueError, match="weights"):
            histogram(image, weights=weights)
    with pytest.raises(ValueError, match="`weights` must have the image's height"):
        histogram(image, weights=np.zeros((3, 2)))


def test_transparent_pixels_may_be_skipped():
    image = np.array([[[10, 0], [20, 255], [30, 1]]], np.uint8)
    assert histogram(image).total.tolist() == [3]
    h = histogram(image, skip_transparent=True)
    assert np.flatnonzero(h.counts[0]).tolist() == [20, 30]
    both = histogram(image, skip_transparent=True, mask=np.array([[True, True, False]]))
    assert np.flatnonzero(both.counts[0]).tolist() == [20]
    assert histogram(image, alpha=False).counts.shape == (2, 256)


def test_batches_count_each_image():
    batch = torch.randint(0, 256, (3, 2, 5, 7), dtype=torch.uint8)
    h = histogram(batch, alpha=False)
    assert h.counts.shape == (3, 2, 256)
    for n in range(3):
        assert (h.counts[n] == histogram(batch[n], alpha=False).counts).all()
    assert histogram(torch.rand(0, 3, 4, 5)).counts.shape == (0, 3, 256)


def test_tensors_with_a_gradient_and_half_precision():
    image = torch.rand(3, 5, 7, requires_grad=True)
    assert histogram(image).counts.sum() == 105
    assert histogram(image.detach().bfloat16()).counts.sum() == 105


@pytest.mark.parametrize("bins", [0, -3, 2.5, [1], [0, 0, 1], [0, np.nan], [[0, 1], [1, 2]], [1, 0], 1 << 25])
def test_wrong_bins(bins):
    with pytest.raises((ValueError, TypeError), match="bins"):
        histogram(np.zeros((2, 3)), bins=bins)


@pytest.mark.fault("numpy/numpy#28354")
def test_counting_takes_little_memory():
    for dtype in (np.uint8, np.uint16, np.float32):
        image = np.zeros((1000, 1000), dtype)
        histogram(image[:10])
        tracemalloc.start()
        histogram(image)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4e6  # numpy.bincount would take 8 bytes a pixel


# The value object


def made(rows, **options):
    counts = np.atleast_2d(np.array(rows))
    edges = np.arange(counts.shape[-1] + 1) - 0.5
    return Histogram(counts, edges, np.zeros(counts.shape[:-1], np.int64), **options)


@given(random_images(np.uint8, None), st.floats(0, 100))
@example(np.array([[3, 3, 7]], np.uint8), 0.0)
@example(np.array([[3, 3, 7]], np.uint8), 100.0)
@example(np.arange(100, dtype=np.uint8).reshape(10, 10), 7.0)
def test_percentiles_of_levels(image, q):
    expected = np.percentile(image, q, method="inverted_cdf")
    found = histogram(image).percentile(q)
    assert found.shape == (1,)
    exact = q * image.size / 100
    if abs(exact - round(exact)) > 1e-9:  # there numpy's own rounding decides
        assert found[0] == expected
    assert found[0] in image


@given(arrays(np.float64, None))
def test_percentiles_of_bins_lie_in_the_bin_of_the_exact_ones(image):
    h = histogram(image, bins=50)
    for q in (0, 13.7, 50, 99, 100):
        exact = np.percentile(image, q, method="inverted_cdf")
        assert abs(h.percentile(q)[0] - exact) <= 1 / 50 + 1e-12


def test_percentile_shapes_and_errors():
    h = made([[1, 2, 3], [0, 0, 0]], discrete=True)
    assert h.percentile([[0, 50], [60, 100]]).shape == (2, 2, 2)
    assert np.isnan(h.percentile(50)[1])
    for q in (-1, 101, np.nan):
        with pytest.raises(ValueError, match="`q`"):
            h.percentile(q)


@given(random_images(np.uint8, 3))
def test_cdf_density_moments_entropy(image):
    h = histogram(image)
    cdf = h.cdf()
    assert (np.diff(cdf) >= 0).all()
    assert (cdf[:, -1] == 1).all()
    np.testing.assert_allclose(h.density().sum(-1), 1)
    flat = image.reshape(-1, 3).astype(float)
    np.testing.assert_allclose(h.mean(), flat.mean(0))
    np.testing.assert_allclose(h.std(), flat.std(0), atol=1e-9)
    for c in range(3):
        p = np.unique(image[..., c], return_counts=True)[1] / total(image)
        np.testing.assert_allclose(h.entropy()[c], -(p * np.log2(p)).sum(), atol=1e-12)
    np.testing.assert_allclose(h.entropy(np.e) / np.log(2), h.entropy(), atol=1e-12)


def test_nothing_counted():
    h = histogram(np.zeros((0, 4, 3), np.uint8))
    assert (h.cdf() == 0).all()
    assert (h.density() == 0).all()
    assert (h.entropy() == 0).all()
    for value in (h.mean(), h.std(), h.percentile(50), h.otsu(), h.multi_otsu(3)[:, 0], h.triangle(), h.distance(h)):
        assert np.isnan(value).all()


def test_entropy_base():
    with pytest.raises(ValueError, match="base"):
        made([1, 2]).entropy(1)


def test_merging_needs_the_same_bins():
    with pytest.raises(ValueError, match="same bins"):
        histogram(np.zeros((2, 2)), bins=4) + histogram(np.zeros((2, 2)), bins=5)
    with pytest.raises(ValueError, match="cannot be added"):
        histogram(np.zeros((2, 2))) + histogram(np.zeros((2, 2, 3)))
    with pytest.raises(TypeError):
        histogram(np.zeros((2, 2))) + 3


@given(random_images(np.float32, 3))
def test_merging_equals_counting_together(image):
    image[0, 0, 0] = np.nan
    top, bottom = image[: image.shape[0] // 2], image[image.shape[0] // 2 :]
    together = histogram(top) + histogram(bottom)
    assert (together.counts == histogram(image).counts).all()
    assert together.missing.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("counts", "edges", "missing"),
    [((2,), 3, ()), ((2, 3), 3, (2,)), ((2, 3), 4, (3,)), ((1, 0), 1, (1,))],
)
def test_parts_must_fit(counts, edges, missing):
    with pytest.raises(ValueError, match="must have shape"):
        Histogram(np.zeros(counts), np.arange(edges), np.zeros(missing))


def test_thresholds_are_values():
    image = np.array([[10, 10, 12, 200, 201]], np.uint8)
    assert histogram(image).otsu().tolist() == [12.0]
    # Between bins of floats the threshold is the edge, so that every counted value lies on its side of it.
    h = histogram(image / 255.0, bins=4)
    assert h.otsu().tolist() == [0.25]
    assert h.multi_otsu(2).tolist() == [[0.25]]


METHODS = ["otsu", "triangle", "li", "yen", "isodata"]


@pytest.mark.parametrize("method", [*METHODS, "minimum"])
def test_thresholds_of_constant_images_are_the_value(method):
    assert getattr(histogram(np.full((3, 4), 77, np.uint8)), method)().tolist() == [77.0]


@pytest.mark.parametrize("method", METHODS)
def test_thresholds_of_two_values_part_them(method):
    image = np.array([[10] * 6 + [200] * 5], np.uint8)
    assert 10 <= getattr(histogram(image), method)()[0] < 200


@given(random_images(np.uint8, None, st.integers(4, 13)), st.sampled_from(METHODS))
def test_thresholds_leave_something_on_both_sides(image, method):
    if image.min() < image.max():
        t = getattr(histogram(image), method)()[0]
        assert image.min() <= t < image.max()


def test_thresholds_of_batches():
    batch = torch.randint(0, 256, (2, 3, 8, 9), dtype=torch.uint8)
    found = histogram(batch).otsu()
    assert found.shape == (2, 3)
    assert (found[1] == histogram(batch[1]).otsu()).all()
    assert histogram(batch).multi_otsu(4).shape == (2, 3, 3)


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_edges_that_drift_from_even_ones_count_as_numpy_does(kind):
    edges = np.concatenate([[0.0], np.cumsum([0.8] * 50 + [1.2] * 50)]) / 100
    photo = np.random.default_rng(0).random((40, 50))
    image = torch.from_numpy(photo) if kind == "tensor" else photo
    np.testing.assert_array_equal(histogram(image, bins=edges.tolist()).counts[0], np.histogram(photo, edges)[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32])
@pytest.mark.parametrize("bins", [7, 999])
@pytest.mark.parametrize("weighted", [False, True])
def test_integers_outside_the_range_are_in_the_end_bins_however_narrow(dtype, bins, weighted):
    photo = np.array([[0, 27, 28, 100, 120, 121, 255]], dtype)
    weights = np.arange(1.0, 8.0)[None] if weighted else None
    counts = histogram(photo, bins=bins, data_range=(28, 120), weights=weights).counts[0]
    edges = np.linspace(27.5, 120.5, bins + 1)
    expected = np.histogram(np.clip(photo, 27.5, 120.5), edges, weights=weights)[0]
    np.testing.assert_array_equal(counts, expected)
    assert counts[0] >= (3 if weighted else 2)


def test_histograms_of_ones_own_are_checked():
    with pytest.raises(TypeError, match="`counts` must be a NumPy array"):
        Histogram([[1, 2]], np.array([0.0, 1, 2]), np.array([0]))
    with pytest.raises(ValueError, match=r"`edges` must rise; got \[0.0, 2.0, 1.0\]"):
        Histogram(np.array([[1, 2]]), np.array([0.0, 2, 1]), np.array([0]))


def test_distances_need_the_same_channels_or_one():
    three, two, one = (histogram(np.zeros((3, 3, c), np.uint8), alpha=False) for c in (3, 2, 1))
    assert three.distance(one).shape == (3,)
    with pytest.raises(ValueError, match=r"`other` must have the channels of this histogram, \(3,\), or one"):
        three.distance(two)
