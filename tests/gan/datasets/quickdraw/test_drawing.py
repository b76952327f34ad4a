from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvkit.gan.datasets.quickdraw import Drawing, StrokeSet

counts = st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=6)


def drawings_of(shape):
    numbers = iter(range(10_000))
    return [
        [np.array([[next(numbers), i] for i in range(n)], float).reshape(n, 2) for n in strokes] for strokes in shape
    ]


@given(counts, st.data())
def test_a_set_of_strokes_is_a_list_of_lists(shape, data):
    plain = drawings_of(shape)
    strokes = StrokeSet.of(plain)
    assert len(strokes) == len(plain)
    assert [[s.tolist() for s in d] for d in strokes] == [[s.tolist() for s in d] for d in plain]
    assert strokes.stroke_counts.tolist() == [len(d) for d in plain]
    assert strokes.point_counts.tolist() == [sum(len(s) for s in d) for d in plain]
    if plain:
        rows = data.draw(st.lists(st.integers(-len(plain), len(plain) - 1), max_size=8))
        assert [[s.tolist() for s in d] for d in strokes[rows]] == [[s.tolist() for s in plain[i]] for i in rows]
    both = StrokeSet.concatenate([strokes, strokes])
    assert [[s.tolist() for s in d] for d in both] == 2 * [[s.tolist() for s in d] for d in plain]


def test_masks_and_slices_choose_drawings():
    strokes = StrokeSet.of(drawings_of([[1], [2], [3, 1]]))
    assert len(strokes[np.array([True, False, True])]) == 2
    assert strokes[1:].point_counts.tolist() == [2, 4]
    assert "3 drawings" in repr(strokes)
    with pytest.raises(IndexError):
        strokes[3]


def test_drawings_with_what_is_said_of_them_come_in():
    drawing = Drawing((np.zeros((2, 2)),), times=(np.zeros(2),))
    assert drawing.is_raw
    assert len(StrokeSet.of([drawing])[0]) == 1


@pytest.mark.parametrize(
    "parts",
    [
        (np.zeros((2, 3)), [0, 2], [0, 1]),
        (np.zeros((2, 2)), [0, 1], [0, 1]),
        (np.zeros((2, 2)), [1, 2], [0, 1]),
        (np.zeros((2, 2)), [0, 2, 1, 2], [0, 3]),
        (np.zeros((2, 2)), [0, 2], []),
    ],
)
def test_offsets_that_do_not_fit_are_refused(parts):
    with pytest.raises(ValueError, match="must"):
        StrokeSet(parts[0], np.array(parts[1]), np.array(parts[2]))


def test_a_stroke_needs_x_and_y():
    with pytest.raises(ValueError, match=r"\(P, 2\)"):
        StrokeSet.of([[np.zeros((2, 3))]])
