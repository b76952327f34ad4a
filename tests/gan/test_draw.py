from __future__ import annotations

import numpy as np
import pytest
import torch

from cvkit import gan


@pytest.mark.fault("NVlabs/stylegan2-ada-pytorch#152")
def test_pixels_are_on_the_sheet_byte_for_byte():
    # Nearly equal greys: a sheet that stretches its range would show black and white.
    images = torch.randint(100, 104, (6, 1, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sheet = gan.sample_sheet(images, columns=3, scale=1)
    assert sheet.shape == (1, 2 * 9 + 3 * 2, 3 * 7 + 4 * 2)
    for i in range(6):
        top, left = 2 + (i // 3) * 11, 2 + (i % 3) * 9
        assert torch.equal(sheet[:, top : top + 9, left : left + 7], images[i])


def test_saved_sheets_read_back_the_same(tmp_path):
    from cvkit.io import load_image, save_image

    sheet = gan.sample_sheet(np.full((4, 8, 8), 77, np.uint8), ["a", "b"])
    save_image(sheet, tmp_path / "sheet.png")
    assert np.array_equal(np.asarray(load_image(tmp_path / "sheet.png")), sheet)


def test_each_class_has_its_row_with_its_name_before_it():
    images = np.zeros((6, 12, 12), np.uint8)
    plain, named = gan.sample_sheet(images, columns=3), gan.sample_sheet(images, ["cat", "apple"])
    assert named.shape[0] == plain.shape[0]
    assert named.shape[1] > plain.shape[1]


def test_inversion_shows_ink_on_paper():
    images = np.array([[[0, 255]]], np.uint8).repeat(4, 1)
    sheet = gan.sample_sheet(images, scale=1, invert=True)
    assert np.array_equal(sheet[2:6, 2:4], 255 - images[0])
    assert np.array_equal(images[0], [[0, 255]] * 4)


def test_scale_enlarges_pixels():
    images = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    assert np.array_equal(gan.sample_sheet(images, scale=3)[6:12, 6:12], images[0].repeat(3, 0).repeat(3, 1))


def test_kinds_come_back():
    assert gan.sample_sheet(np.zeros((2, 3, 8, 8), np.uint8)).shape[-1] == 3
    assert gan.sample_sheet(np.zeros((2, 8, 8), np.uint8)).ndim == 2
    assert isinstance(gan.sample_sheet(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)), torch.Tensor)


def test_bad_sheets_are_refused():
    with pytest.raises(TypeError, match="`images` must be uint8"):
        gan.sample_sheet(np.zeros((2, 8, 8)))
    for shape in [(8, 8), (0, 8, 8), (1, 5, 8, 8)]:
        with pytest.raises(ValueError, match="`images` must be of shape"):
            gan.sample_sheet(np.zeros(shape, np.uint8))
    for names in (["a", "b"], [], "abc"):
        with pytest.raises(ValueError, match="as many images for each of `names`; got 3"):
            gan.sample_sheet(np.zeros((3, 8, 8), np.uint8), names)
