from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit.imgops import composite, contact_sheet, watermark
from cvkit.imgops.drawing import text_coverage
from strategies import SEEDS


def pictures(seed=0, count=5, channels=3, low=1):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(low, 9, (count, 2))
    return [rng.integers(0, 256, (*size, channels), dtype=np.uint8) for size in sizes]


@given(SEEDS, st.integers(1, 7), st.integers(0, 4), st.integers(1, 3))
def test_every_picture_is_on_the_sheet_bit_for_bit(seed, columns, gap, scale):
    images = pictures(seed)
    sheet = contact_sheet(images, columns=columns, gap=gap, scale=scale, background="blue")
    height, width = (max(x.shape[i] for x in images) * scale for i in (0, 1))
    columns = min(columns, 5)
    rows = -(-5 // columns)
    assert sheet.shape == (rows * (height + gap) + gap, columns * (width + gap) + gap, 3)
    rest = np.ones(sheet.shape[:2], bool)
    for i, image in enumerate(images):
        y = gap + (i // columns) * (height + gap) + (height - image.shape[0] * scale) // 2
        x = gap + (i % columns) * (width + gap) + (width - image.shape[1] * scale) // 2
        cell = sheet[y : y + image.shape[0] * scale, x : x + image.shape[1] * scale]
        assert np.array_equal(cell, image.repeat(scale, 0).repeat(scale, 1))
        rest[y : y + image.shape[0] * scale, x : x + image.shape[1] * scale] = False
    assert (sheet[rest] == [0, 0, 255]).all()


def test_all_kinds_give_the_same_sheet():
    images = pictures(1)
    options = {"columns": 2, "labels": list("abcde"), "row_labels": ["x", "yy", "z"], "column_labels": ["one", "two"]}
    expected = contact_sheet(images, **options)
    pillow = contact_sheet([Image.fromarray(x) for x in images], **options)
    assert pillow.mode == "RGB"
    assert np.array_equal(np.asarray(pillow), expected)
    tensors = contact_sheet([torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in images], **options)
    assert np.array_equal(tensors.numpy().transpose(1, 2, 0), expected)
    floats = contact_sheet([torch.from_numpy(x.transpose(2, 0, 1) / 255.0) for x in images], **options)
    assert np.abs(floats.numpy().transpose(1, 2, 0) * 255 - expected).max() <= 0.5 + 1e-6


def test_batches_are_several_pictures():
    batch = torch.randint(0, 256, (6, 1, 4, 5), dtype=torch.uint8)
    sheet = contact_sheet(batch, columns=3, gap=1)
    assert sheet.shape == (1, 11, 19)
    assert torch.equal(sheet[:, 6:10, 13:18], batch[5])
    array = contact_sheet(batch.numpy()[:, 0], columns=3, gap=1)
    assert np.array_equal(array, sheet[0].numpy())
    assert torch.equal(contact_sheet(batch[:, 0], columns=3, gap=1), sheet[0])


def test_the_default_number_of_columns_is_about_the_square_root():
    assert contact_sheet(np.zeros((10, 2, 3), np.uint8), gap=0).shape == (6, 12)
    assert contact_sheet(np.zeros((1, 2, 3), np.uint8), gap=0).shape == (2, 3)


def test_grey_joins_colour_and_opaque_joins_translucent():
    grey, color = np.full((2, 2), 7, np.uint8), np.full((2, 2, 3), 9, np.uint8)
    clear = np.full((2, 2, 4), 5, np.uint8)
    sheet = contact_sheet([grey, color], columns=2, gap=1)
    assert sheet[1, 1].tolist() == [7, 7, 7]
    sheet = contact_sheet([grey, clear], columns=2, gap=1, background="red")
    assert sheet[1, 1].tolist() == [7, 7, 7, 255]
    assert sheet[1, 4].tolist() == [5, 5, 5, 5]
    assert sheet[0, 0].tolist() == [255, 0, 0, 255]
    assert contact_sheet([grey, clear[..., 2:]], columns=2).shape[2] == 2
    assert contact_sheet([torch.zeros(1, 2, 2), torch.zeros(4, 2, 2)]).shape[0] == 4


def test_the_range_is_fixed():
    dark = np.full((3, 3), 0.25, np.float32)
    assert contact_sheet([dark, dark / 2], gap=1)[1, 1] == np.float32(0.25)
    assert contact_sheet([dark * 4 - 2], gap=1, data_range=(-2, 2))[0, 0] == 2


def test_labels_are_written_around_the_pictures():
    black = np.zeros((6, 20, 20), np.uint8)
    plain = contact_sheet(black, columns=3, gap=2)
    below = contact_sheet(black, columns=3, gap=2, labels=list("abcdef"))
    left = contact_sheet(black, columns=3, gap=2, row_labels=["first", "second"])
    above = contact_sheet(black, columns=3, gap=2, column_labels=["x", "y", "z"])
    height = text_coverage("a", 12).shape[0] + 2
    assert below.shape == (plain.shape[0] + 2 * height, plain.shape[1])
    assert above.shape == (plain.shape[0] + height, plain.shape[1])
    assert left.shape == (plain.shape[0], plain.shape[1] + text_coverage("second", 12).shape[1] + 2)
    assert (below[22 : 22 + height] < 255).any()
    assert (left[:, : left.shape[1] - plain.shape[1]] < 255).any()
    assert (above[:height] < 255).any()
    assert np.array_equal(above[height:], plain)


def test_wide_labels_widen_the_cells():
    sheet = contact_sheet(np.zeros((2, 4, 4), np.uint8), labels=["a rather long label", "b"], gap=0)
    assert sheet.shape[1] == 2 * text_coverage("a rather long label", 12).shape[1]


@pytest.mark.parametrize(
    ("images", "options", "error", "words"),
    [
        ([], {}, ValueError, "at least one picture"),
        (7, {}, TypeError, "several pictures"),
        ("abc", {}, TypeError, r"`images\[0\]` must be a Pillow image"),
        ([np.zeros((2, 2), np.uint8), np.zeros((2, 2))], {}, TypeError, r"`images\[1\]` must have the dtype"),
        ([np.zeros((2, 2)), torch.zeros(2, 2)], {}, TypeError, r"`images\[1\]` must have the kind"),
        ([np.zeros((2, 2, 2)), np.zeros((2, 2, 3))], {"alpha": False}, ValueError, "colour channels"),
        ([torch.zeros(2, 3, 4, 4)], {}, ValueError, r"`images\[0\]` must be a single picture"),
        (np.zeros((2, 3, 3)), {"labels": ["a"]}, ValueError, "`labels` must hold 2 strings; got 1"),
        (np.zeros((2, 3, 3)), {"labels": "ab"}, TypeError, "sequence of strings"),
        (np.zeros((2, 3, 3)), {"row_labels": [1]}, TypeError, r"`row_labels\[0\]` must be a string"),
        (np.zeros((2, 3, 3)), {"columns": 0}, ValueError, "`columns` must be at least 1"),
        (np.zeros((2, 3, 3)), {"gap": -1}, ValueError, "`gap` must be at least 0"),
    ],
)
def test_wrong_sheets_are_refused(images, options, error, words):
    with pytest.raises(error, match=words):
        contact_sheet(images, **options)


# watermark


def test_a_small_picture_is_composited_at_its_place():
    image, mark = pictures(2, 1, low=8)[0].repeat(6, 0).repeat(6, 1), pictures(3, 1, 4, low=4)[0]
    height, width = mark.shape[:2]
    for position, offset in {
        "top-left": (3, 3),
        "bottom-right": (48 - height - 3, 48 - width - 3),
        "center": ((48 - height) // 2, (48 - width) // 2),
    }.items():
        result = watermark(image, mark, position=position, margin=3, opacity=0.5)
        assert np.array_equal(result, composite(mark, image, offset=offset, opacity=0.5))


@pytest.mark.parametrize("position", ["center", "bottom-right", "top-left", "tile"])
def test_text_marks_some_pixels_and_no_others(position):
    image = np.full((50, 80, 3), 100, np.uint8)
    result = watermark(image, "cvkit", position=position, opacity=0.5)
    assert result.max() > 150
    assert result.min() == 100
    assert (result[:8] == 100).all()
    changed = (result != image).any(-1)
    assert changed.mean() < 0.5


def test_tiles_repeat_the_mark():
    mark = np.full((2, 3, 3), 200, np.uint8)
    result = watermark(np.zeros((11, 13, 3), np.uint8), mark, position="tile", margin=2, opacity=1)
    expected = np.zeros((11, 13, 3), np.uint8)
    for y in (2, 6, 10):
        for x in (2, 7, 12):
            expected[y : y + 2, x : x + 3] = 200
    assert np.array_equal(result, expected)
    floats = watermark(torch.zeros(3, 11, 13), torch.full((3, 2, 3), 200 / 255), position="tile", margin=2, opacity=1)
    assert np.abs(floats.numpy().transpose(1, 2, 0) * 255 - expected).max() < 1e-4


def test_marks_that_are_too_large_or_empty():
    image = np.zeros((5, 6, 3), np.uint8)
    assert watermark(image, np.full((20, 30, 3), 255, np.uint8), opacity=1).shape == image.shape
    for position in ("tile", "center"):
        assert np.array_equal(watermark(image, np.zeros((0, 4, 3), np.uint8), position=position), image)
        assert np.array_equal(watermark(image, "", position=position), image)
    assert watermark(np.zeros((0, 5), np.uint8), "a", position="tile").shape == (0, 5)


def test_all_kinds_take_a_mark():
    image = np.full((30, 40), 90, np.uint8)
    expected = watermark(image, "mark", position="tile", margin=2)
    assert np.array_equal(np.asarray(watermark(Image.fromarray(image), "mark", position="tile", margin=2)), expected)
    assert np.array_equal(watermark(torch.from_numpy(image), "mark", position="tile", margin=2).numpy(), expected)


def test_wrong_marks_are_refused():
    image = np.zeros((5, 6, 3), np.uint8)
    with pytest.raises(ValueError, match="`position` must be one of"):
        watermark(image, "a", position="middle")
    with pytest.raises(TypeError, match="`mark` must have the dtype of `image`"):
        watermark(image, np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match="one or three colour channels"):
        watermark(np.zeros((2, 2, 4)), "a", alpha=False)
    with pytest.raises(ValueError, match="`margin`"):
        watermark(image, "a", margin=-1)
    with pytest.raises(ValueError, match="`size`"):
        watermark(image, "a", size=0)
