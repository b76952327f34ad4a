from __future__ import annotations

import numpy as np
import pytest
import torch

from cvkit.imgops import draw_histogram, histogram

BACKGROUND = (22, 24, 29)


def gray(values):
    return histogram(np.array([values], np.uint8))


def test_columns_are_as_high_as_the_counts():
    picture = draw_histogram(gray([10] * 8 + [100] * 4 + [200] * 2), size=(84, 256))
    assert picture.shape == (84, 256, 3)
    assert picture.dtype == np.uint8
    heights = (picture[:, :, 0] > 100).sum(0)
    assert (heights[10], heights[100], heights[200]) == (80, 40, 20)
    assert heights.sum() == 140
    assert tuple(picture[0, 0]) == BACKGROUND


def test_scales():
    counts = gray([10] * 64 + [100] * 16)
    for scale, ratio in (("linear", 4.0), ("sqrt", 2.0), ("log", np.log1p(64) / np.log1p(16))):
        picture = draw_histogram(counts, size=(404, 256), scale=scale)
        heights = (picture[:, :, 0] > 100).sum(0)
        assert heights[10] / heights[100] == pytest.approx(ratio, rel=0.02)


def test_no_peak_is_lost_where_bins_share_a_column():
    image = np.full((1, 9), 30000, np.uint16)
    picture = draw_histogram(histogram(image), size=(50, 100))
    assert (picture[:, :, 0] > 100).sum(0).max() == 46


def test_three_channels_add_up_to_grey_where_they_overlap():
    image = np.random.default_rng(0).integers(0, 4, (50, 50, 1)).repeat(3, 2).astype(np.uint8)
    picture = draw_histogram(histogram(image, bins=4), size=(60, 40)).astype(int)
    top = picture[-1]
    assert (top.max(-1) - top.min(-1) < 30).all()
    red = draw_histogram(
        histogram(np.stack([image[..., 0], image[..., 0] + 100, image[..., 0] + 200], -1)), size=(60, 256)
    )
    assert red[-1, 1].argmax() == 0
    assert red[-1, 101].argmax() == 1
    assert red[-1, 201].argmax() == 2


def test_marks_and_channels_of_any_number():
    picture = draw_histogram(gray([0] * 9), size=(20, 256), marks=[128.0, 500.0])
    assert (picture[:, 128] == [255, 214, 90]).all()
    assert draw_histogram(histogram(np.zeros((2, 3, 5), np.uint8), channel_axis=-1), size=(20, 30)).shape == (20, 30, 3)


def test_empty_and_constant():
    assert (draw_histogram(histogram(np.zeros((0, 3), np.uint8)), size=(9, 8))[0, 0] == BACKGROUND).all()
    assert draw_histogram(gray([7, 7]), size=(8, 8)).shape == (8, 8, 3)


def test_errors():
    with pytest.raises(ValueError, match="a batch"):
        draw_histogram(histogram(torch.rand(2, 3, 4, 5)))
    with pytest.raises(ValueError, match="size"):
        draw_histogram(gray([1]), size=(4, 100))
    with pytest.raises(ValueError, match="scale"):
        draw_histogram(gray([1]), scale="exp")
    with pytest.raises(TypeError, match="Histogram"):
        draw_histogram(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="marks"):
        draw_histogram(gray([1]), marks=[np.nan])
