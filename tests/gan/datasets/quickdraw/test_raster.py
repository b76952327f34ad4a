from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkit.gan.datasets.quickdraw import StrokeSet, fit_frame, iter_ndjson, rasterize, simplify
from reference import gan_raster

points = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), min_size=1, max_size=6)
drawings = st.lists(points, min_size=1, max_size=4).map(lambda ss: [np.array(s, float) for s in ss])


@settings(max_examples=25)
@given(drawings)
def test_every_pixel_is_what_fine_sampling_finds(drawing):
    exact = rasterize([drawing])[0]
    sampled = gan_raster.rasterize(drawing)
    assert np.abs(exact - sampled).mean() < 0.6
    # Where many thin slivers meet in one pixel the sampled oracle itself errs by a few levels.
    assert np.abs(exact - sampled).max() < 14


def test_a_horizontal_line_covers_what_arithmetic_says():
    # 16 of 304 pixels of frame on 28: 1.4737 pixels, half of them on either side of y = 14; 11 of 15 rows a pixel.
    image = rasterize([[np.array([[0, 0], [255, 0]])]])[0]
    assert image[12:16, 14].tolist() == [0, 187, 187, 0]
    assert image[:, 0].max() == 0


def test_strokes_lie_over_one_another_like_ink():
    line = np.array([[0, 0], [255, 0]])
    twice = rasterize([[line, line]])[0]
    assert twice[13, 14] == np.floor((1 - (4 / 15) ** 2) * 255 + 0.5)


@given(drawings, st.integers(1, 40), st.floats(1, 40), st.floats(0, 30))
def test_any_size_and_pen_stays_in_range_and_order_of_strokes_does_not_matter(drawing, size, line_width, padding):
    image = rasterize([drawing], size=size, line_width=line_width, padding=padding)
    assert image.shape == (1, size, size)
    assert image.dtype == np.uint8
    other = rasterize([drawing[::-1]], size=size, line_width=line_width, padding=padding)
    assert np.abs(image.astype(int) - other).max() <= 1


def test_many_drawings_at_once_equal_one_at_a_time():
    rng = np.random.default_rng(0)
    many = [[rng.integers(0, 256, (rng.integers(1, 9), 2)) for _ in range(rng.integers(0, 5))] for _ in range(280)]
    together = rasterize(many)
    assert (together == np.concatenate([rasterize([d]) for d in many])).all()
    assert together[[len(d) == 0 for d in many]].max() == 0


def test_no_drawing_no_image():
    assert rasterize([]).shape == (0, 28, 28)
    assert len(simplify([])) == 0
    assert rasterize([[]]).max() == 0
    assert rasterize([[np.zeros((0, 2)), np.array([[3, 3]])]]).max() > 100


def test_points_far_off_the_frame_are_clipped():
    image = rasterize([[np.array([[-1e6, 128], [1e6, 128]])]])
    assert image.shape == (1, 28, 28)


def test_a_stroke_of_absurd_length_needs_bounded_memory():
    rng = np.random.default_rng(0)
    image = rasterize([[rng.integers(0, 256, (5000, 2))]])
    assert image[0, 8:20, 8:20].min() == 255


@settings(max_examples=30)
@given(drawings.filter(lambda d: np.ptp(np.concatenate(d), axis=0).max() > 0), st.floats(0.2, 5), st.floats(-100, 100))
def test_simplify_is_the_textbook_algorithm(drawing, scale, shift):
    ours = simplify([[s * scale + shift for s in drawing]])[0]
    theirs = gan_raster.simplify([(s * scale + shift).astype(np.float32).astype(float) for s in drawing])
    for a, b in zip(ours, theirs, strict=True):
        # Rounding may break a tie between two equally far points otherwise: the same line either way.
        if a.shape != b.shape or (a != b).any():
            assert np.abs(rasterize([[a]]).astype(int) - rasterize([[b]])).mean() < 1.0


@given(drawings)
def test_simplify_keeps_the_ends_of_every_stroke(drawing):
    for before, after in zip(fit_frame([drawing])[0], simplify([drawing])[0], strict=True):
        assert np.abs(after[[0, -1]] - before[[0, -1]]).max() <= 0.5 + 1e-4


def test_what_lies_within_epsilon_of_its_chord_goes_and_what_lies_beyond_stays():
    bow = [np.array([[0.0, 0.0], [127.0, 1.9], [255.0, 0.0]])]
    bend = [np.array([[0.0, 0.0], [127.0, 2.1], [255.0, 0.0]])]
    assert simplify([bow])[0][0].tolist() == [[0, 0], [255, 0]]
    assert simplify([bend])[0][0].tolist() == [[0, 0], [127, 2], [255, 0]]
    assert len(simplify([bow], epsilon=1.5)[0][0]) == 3


def test_simplify_is_done_once():
    rng = np.random.default_rng(0)
    once = simplify([[np.cumsum(rng.normal(0, 9, (200, 2)), axis=0)]])
    assert once.points.min() == 0
    assert once.points.max() == 255


@given(drawings)
def test_fit_frame_fills_the_longer_side(drawing):
    flat = fit_frame([drawing]).points
    assert flat.min() == 0
    assert flat.max() == 0 or flat.max() == pytest.approx(255, abs=1e-3)


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="finite"):
        rasterize([[np.array([[np.nan, 0]])]])
    with pytest.raises(ValueError, match="size"):
        rasterize([], size=0)
    with pytest.raises(ValueError, match="line_width"):
        rasterize([], line_width=0)
    with pytest.raises(ValueError, match="epsilon"):
        simplify([], epsilon=-1)


@pytest.mark.fault("googlecreativelab/quickdraw-dataset#19")
def test_official_bitmaps_are_matched(real_data):
    with np.load(real_data / "quickdraw" / "bitmaps_9x2000.npz") as arrays:
        images, labels, names = arrays["images"], arrays["labels"], list(arrays["names"])
    errors = []
    for label, name in enumerate(names):
        drawings = list(iter_ndjson(real_data / "quickdraw" / "raw_ndjson" / f"{name}.ndjson"))
        drawn = rasterize(simplify(drawings))
        errors.append(np.abs(drawn.astype(int) - images[labels == label][: len(drawn)]).mean(axis=(1, 2)))
    errors = np.concatenate(errors)
    assert len(errors) == 299
    assert errors.mean() < 0.3
    assert errors.max() < 2.0


def test_official_strokes_agree_with_a_reading_by_hand(real_data):
    path = real_data / "quickdraw" / "raw_ndjson" / "eye.ndjson"
    first = json.loads(path.read_text().splitlines()[0])
    strokes = StrokeSet.of([next(iter_ndjson(path))])[0]
    assert [s.T.tolist() for s in strokes] == [s[:2] for s in first["drawing"]]
