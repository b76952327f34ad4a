from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cvkit.imgops import Lut, autocontrast, clahe, equalize, equalize_lut, gamma
from reference import imgops_histograms as slow
from strategies import SEEDS, arrays, random_images

GRAY = random_images(np.uint8, None, st.integers(1, 40))


@given(st.one_of(GRAY, arrays(np.uint8, None)))
@example(np.full((3, 4), 9, np.uint8))
@example(np.arange(256, dtype=np.uint8).reshape(16, 16))
def test_opencv_rule_against_the_slow_one(image):
    assert (equalize(image) == slow.opencv_equalize(image)).all()


@given(st.one_of(GRAY, arrays(np.uint8, None)))
@example(np.full((30, 40), 9, np.uint8))
def test_pillow_rule_against_the_slow_one(image):
    assert (equalize(image, method="pillow") == slow.pillow_equalize(image)).all()


@given(random_images(np.uint8, 3, st.integers(1, 60)), st.integers(0, 200), st.integers(1, 55))
def test_peers_bit_for_bit(image, low, width):
    cv2 = pytest.importorskip("cv2")
    image = low + image % np.uint8(width)
    ours = equalize(image)
    for c in range(3):
        assert (ours[..., c] == cv2.equalizeHist(np.ascontiguousarray(image[..., c]))).all()
    theirs = ImageOps.equalize(Image.fromarray(image))
    assert (equalize(image, method="pillow") == np.asarray(theirs)).all()
    assert equalize(Image.fromarray(image), method="pillow").tobytes() == theirs.tobytes()


@given(random_images(np.uint8, None, st.integers(5, 40)), SEEDS)
def test_peer_pillow_masked(image, seed):
    mask = np.random.default_rng(seed).random(image.shape) > 0.4
    theirs = ImageOps.equalize(Image.fromarray(image), Image.fromarray(mask.astype(np.uint8) * 255))
    assert (equalize(image, method="pillow", mask=mask) == np.asarray(theirs)).all()


@pytest.mark.fault("opencv/opencv#226")
def test_a_uniform_ramp_stays():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (equalize(ramp) == ramp).all()
    wide = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert (equalize(wide) == wide).all()


@given(random_images(np.uint8, None, st.integers(1, 30)))
def test_twice_moves_nothing_by_more_than_a_level(image):
    once = equalize(image).astype(int)
    assert np.abs(equalize(once.astype(np.uint8)) - once).max() <= 1


@given(random_images(np.uint8, 3))
def test_tables_are_monotone_and_reach_the_ends(image):
    table = equalize_lut(image).table(256)
    assert table.shape == (3, 256)
    assert (np.diff(table) >= 0).all()
    for c in range(3):
        if np.ptp(image[..., c]):
            after = equalize(image)[..., c]
            assert (after.min(), after.max()) == (0, 255)


@pytest.mark.fault("opencv/opencv#4842")
def test_16_bit_keeps_its_levels():
    image = np.random.default_rng(0).integers(1000, 9000, (60, 70)).astype(np.uint16)
    out = equalize(image)
    assert out.dtype == np.uint16
    assert len(np.unique(out)) > 1000
    assert (out.min(), out.max()) == (0, 65535)
    order = np.argsort(image, axis=None)
    assert (np.diff(out.ravel()[order].astype(int)) >= 0).all()


@pytest.mark.fault("kornia/kornia#780")
def test_small_and_low_range_floats_are_stretched():
    image = torch.rand(1, 5, 5) * 0.1 + 0.4
    out = equalize(image)
    assert out.min() < 0.05
    assert out.max() > 0.95


@given(random_images(np.uint8, None, st.integers(2, 20)))
def test_floats_on_the_levels_are_the_unrounded_integers(image):
    exact = equalize(image / 255.0) * 255
    assert np.abs(exact - equalize(image)).max() <= 0.5 + 1e-4


def test_more_levels_see_finer_differences():
    image = np.linspace(0.5, 0.5005, 100).reshape(10, 10)
    assert np.ptp(equalize(image)) < np.ptp(equalize(image, levels=65536))


def test_mask_counts_only_what_it_shows():
    image = np.array([[0, 10, 20, 200]], np.uint8)
    mask = np.array([[False, True, True, False]])
    assert equalize(image, mask=mask).tolist() == [[0, 0, 255, 255]]
    assert (equalize(image, mask=mask & False) == image).all()


def test_transparent_pixels_may_be_skipped():
    image = np.array([[[0, 0], [10, 255], [20, 255], [30, 255]]], np.uint8)
    assert equalize(image, skip_transparent=True)[..., 0].tolist() == [[0, 0, 128, 255]]
    assert equalize(image)[..., 0].tolist() == [[0, 85, 170, 255]]


@given(random_images(np.uint8, 3))
def test_luma_keeps_differences_between_channels_unless_clipped(image):
    out = equalize(image, by="luma").astype(int)
    inner = (out > 0).all(-1) & (out < 255).all(-1)
    change = out - image
    assert (change[inner] == change[inner][:, :1]).all()


def test_luma_of_grey_is_the_channel():
    gray = np.random.default_rng(0).integers(0, 99, (8, 9)).astype(np.uint8)
    assert (equalize(gray, by="luma") == equalize(gray)).all()
    assert (equalize(np.stack([gray] * 3, -1), by="luma") == equalize(gray)[..., None]).all()
    with pytest.raises(ValueError, match="luma needs"):
        equalize(np.zeros((4, 5, 2), np.uint8), by="luma", alpha=False)


def test_data_range_of_ten_bits():
    image = np.random.default_rng(0).integers(100, 300, (20, 30)).astype(np.uint16)
    out = equalize(image, data_range=(0, 1023))
    assert (out.min(), out.max()) == (0, 1023)
    out = equalize(image.astype(np.uint8) % 100 + 20, data_range=(16, 235))
    assert (out.min(), out.max()) == (16, 235)


def test_lut_serves_other_images_and_joins():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 100, (2, 6, 7, 3)).astype(np.uint8)
    lut = equalize_lut(first)
    assert (lut(first) == equalize(first)).all()
    assert lut(second).shape == second.shape
    joined = Lut.gamma(2.0) @ lut
    assert np.abs(joined(first).astype(int) - gamma(equalize(first), 2.0)).max() == 0
    floats = first / 255.0
    np.testing.assert_allclose(equalize_lut(floats)(floats), equalize(floats), atol=1e-12)
    pillow = equalize_lut(first, method="pillow")
    assert (pillow(first) == equalize(first, method="pillow")).all()
    with pytest.raises(ValueError, match="single image"):
        equalize_lut(torch.rand(2, 3, 4, 5))


@pytest.mark.parametrize("option", [{"method": "skimage"}, {"by": "row"}, {"levels": 1}, {"threads": 0}])
def test_wrong_options(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        equalize(np.zeros((3, 4)), **option)


@pytest.mark.parametrize("function", [equalize, partial(clahe, grid_size=(2, 2)), autocontrast])
def test_integers_outside_the_range_count_as_its_ends_in_luma(function):
    wild = np.random.default_rng(3).integers(-500, 1500, (7, 9, 3)).astype(np.int16)
    inside = np.clip(wild, 0, 1000)
    options = {"by": "luma", "data_range": (0, 1000)}
    assert np.array_equal(function(wild, **options), function(inside, **options))
