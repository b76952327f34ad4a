from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit.imgops import draw_lines, draw_points, draw_text
from cvkit.imgops.drawing import ANCHORS, rgb_colors, text_coverage

BLACK = np.zeros((9, 13, 3), np.uint8)


def test_a_level_line_of_whole_width_covers_whole_pixels():
    result = draw_lines(BLACK, [[[2, 4], [9, 4]]], "white", 3)
    assert (result[3:6, 2:10] == 255).all()
    assert (result[:3] == 0).all()
    assert (result[6:] == 0).all()


def test_a_line_of_even_width_shares_its_edges():
    result = draw_lines(BLACK, [[[-5, 4], [20, 4]]], "white", 2)
    assert (result[4] == 255).all()
    assert (result[[3, 5]] == 128).all()


def test_a_thin_line_is_faint():
    result = draw_lines(BLACK, [[[-5, 4], [20, 4]]], "white", 0.5)
    assert (result[4] == 128).all()
    assert result.sum() == 128 * 13 * 3


def test_places_are_x_then_y():
    assert draw_points(BLACK, [[11, 2]], "white", 0.5)[2, 11].tolist() == [255, 255, 255]
    assert draw_lines(BLACK, [[[11, 2], [11, 2]]], "white", 1)[2, 11].tolist() == [255, 255, 255]


def test_a_dot_covers_its_area():
    image = np.zeros((41, 41))
    for radius in (3.0, 7.5, 12.25):
        area = draw_points(image, [[20.3, 19.8]], "white", radius).sum()
        assert area == pytest.approx(np.pi * radius**2, rel=0.01)


def test_later_shapes_lie_on_earlier_ones():
    result = draw_points(BLACK, [[4, 4], [4, 4]], np.array([[1.0, 0, 0], [0, 1.0, 0]]), 2)
    assert result[4, 4].tolist() == [0, 255, 0]


def test_opacity_mixes_with_the_picture():
    image = np.full((5, 5, 3), 100, np.uint8)
    assert draw_points(image, [[2, 2]], "white", 1, opacity=0.5)[2, 2].tolist() == [178, 178, 178]
    assert np.array_equal(draw_points(image, [[2, 2]], "white", 1, opacity=0), image)


def test_unknown_places_are_left_out():
    for bad in (np.nan, np.inf):
        assert np.array_equal(draw_points(BLACK, [[bad, 3.0]]), BLACK)
        assert np.array_equal(draw_lines(BLACK, [[[1, 1], [3.0, bad]]]), BLACK)
    colors = np.array([[1.0, 0, 0], [0, 0, 1.0]])
    assert draw_points(BLACK, [[np.nan, 3], [5, 5]], colors)[5, 5].tolist() == [0, 0, 255]


@given(st.lists(st.tuples(*[st.floats(-40, 40)] * 4), max_size=5), st.floats(0.1, 9))
def test_anything_may_lie_outside(ends, width):
    segments = np.array(ends).reshape(-1, 2, 2)
    result = draw_lines(BLACK, segments, "white", width)
    assert result.shape == BLACK.shape
    larger = draw_lines(np.zeros((109, 113, 3), np.uint8), segments + 50, "white", width)
    assert np.array_equal(result, larger[50:59, 50:63])


def test_nothing_to_draw_gives_a_copy():
    for nothing in ([], np.zeros((0, 2)), torch.zeros(0, 2)):
        result = draw_points(BLACK, nothing)
        assert np.array_equal(result, BLACK)
        assert not np.shares_memory(result, BLACK)
    assert draw_points(np.zeros((0, 5, 3), np.uint8), [[1, 1]]).shape == (0, 5, 3)


def test_all_kinds_give_the_same_pixels():
    image = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    segments = torch.tensor([[[0.5, 1.5], [11.0, 7.0]]])
    expected = draw_lines(image, segments, "#3060c0", 2.5)
    image.flags.writeable = False
    pillow = draw_lines(Image.fromarray(image), segments.numpy(), "#3060c0", 2.5)
    assert np.array_equal(np.asarray(pillow), expected)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    assert np.array_equal(draw_lines(tensor, segments, "#3060c0", 2.5).numpy().transpose(1, 2, 0), expected)
    batch = draw_lines(torch.stack([tensor, tensor]), segments, "#3060c0", 2.5)
    assert torch.equal(batch[0], batch[1])
    floats = draw_lines(tensor / 255, segments, "#3060c0", 2.5)
    assert np.abs(floats.numpy().transpose(1, 2, 0) * 255 - expected).max() < 0.51
    words = draw_lines(image.astype(np.uint16) * 257, segments, "#3060c0", 2.5)
    assert words.dtype == np.uint16


def test_grey_pictures_get_the_luma():
    assert draw_points(BLACK[..., 0], [[5, 5]], "red")[5, 5] == 76
    assert draw_points(Image.new("L", (9, 9)), [[5, 5]], "red").getpixel((5, 5)) == 76


def test_drawing_on_a_transparent_picture_makes_it_opaque_there():
    result = draw_points(np.zeros((9, 9, 4), np.uint8), [[4, 4]], "red", 2)
    assert result[4, 4].tolist() == [255, 0, 0, 255]
    assert result[0, 0].tolist() == [0, 0, 0, 0]


def test_the_picture_stays_differentiable():
    image = torch.rand(3, 9, 9).requires_grad_()
    draw_lines(image, [[[0, 4], [9, 4]]], "red", 3).sum().backward()
    assert (image.grad[:, 4] == 0).all()
    assert (image.grad[:, 0] == 1).all()


# Text


def test_text_covers_something_in_every_kind():
    for image in (BLACK, Image.fromarray(BLACK), torch.zeros(3, 9, 13), np.zeros((9, 13)), torch.zeros(2, 1, 9, 13)):
        result = draw_text(image, "Ag", (0, 0), size=9)
        assert np.asarray(result).max() > 0


@pytest.mark.parametrize("anchor", ANCHORS)
def test_anchors_put_the_box(anchor):
    image = np.zeros((61, 81))
    share = text_coverage("HxH", 12)
    result = draw_text(image, "HxH", (40, 30), anchor=anchor)
    rows, columns = np.nonzero(result)
    height, width = share.shape
    inked_rows, inked_columns = np.nonzero(share)
    left, top = ANCHORS[anchor]
    assert rows.min() == round(30 - top * height) + inked_rows.min()
    assert columns.max() == round(40 - left * width) + inked_columns.max()


def test_lines_of_text_stand_below_each_other_on_one_rule():
    assert text_coverage("a\nb", 12).shape[0] > 1.8 * text_coverage("a", 12).shape[0]
    assert text_coverage("one", 12).shape[0] == text_coverage("Tg", 12).shape[0]
    assert text_coverage("", 12).size == 0
    assert np.array_equal(draw_text(BLACK, "", (0, 0)), BLACK)


def test_larger_text_is_larger():
    assert text_coverage("cat", 24).shape[0] > 1.5 * text_coverage("cat", 12).shape[0]


# Colours


def test_colours_are_read():
    assert rgb_colors("#ff0080", 1)[0].tolist() == [1.0, 0.0, 128 / 255]
    assert rgb_colors(np.array([255, 0, 128], np.uint8), 2).tolist() == [[1.0, 0.0, 128 / 255]] * 2
    assert rgb_colors((0.5, 0, 1), 1)[0].tolist() == [0.5, 0, 1]


@pytest.mark.parametrize(
    ("color", "error", "words"),
    [
        ("no such colour", ValueError, "a colour's name"),
        ((255, 0, 0), ValueError, r"must lie in \[0, 1\].*uint8 array"),
        ((0.1, 0.2), ValueError, r"shape \(3,\) or \(1, 3\)"),
        (np.zeros((2, 3)), ValueError, r"shape \(3,\) or \(1, 3\)"),
        ((np.nan, 0, 0), ValueError, "must lie in"),
        (None, TypeError, "a name or numbers"),
    ],
)
def test_wrong_colours_are_refused(color, error, words):
    with pytest.raises(error, match=words):
        draw_points(BLACK, [[1, 1]], color)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"`segments` must have shape \(K, 2, 2\); got \(1, 2\)"):
        draw_lines(BLACK, [[1, 2]])
    with pytest.raises(ValueError, match=r"`points` must have shape \(K, 2\); got \(1, 3\)"):
        draw_points(BLACK, [[1, 2, 3]])
    with pytest.raises(TypeError, match="`points` must hold numbers"):
        draw_points(BLACK, [["a", "b"]])
    with pytest.raises(ValueError, match=r"`width` must lie in \(0"):
        draw_lines(BLACK, [], width=0)
    with pytest.raises(ValueError, match=r"`radius` must lie in \(0"):
        draw_points(BLACK, [], radius=-1)
    with pytest.raises(ValueError, match="`opacity`"):
        draw_points(BLACK, [[1, 1]], opacity=2)
    with pytest.raises(ValueError, match="one or three colour channels"):
        draw_points(np.zeros((2, 2, 4)), [[1, 1]], alpha=False)
    with pytest.raises(TypeError, match="`text` must be a string"):
        draw_text(BLACK, 3, (0, 0))
    with pytest.raises(TypeError, match="`position` must be two numbers"):
        draw_text(BLACK, "a", 3)
    with pytest.raises(ValueError, match="`anchor` must be one of"):
        draw_text(BLACK, "a", (0, 0), anchor="middle")
