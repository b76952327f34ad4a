from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cvkit.imgops import Lut, autocontrast, autocontrast_lut, histogram, threshold
from strategies import SEEDS, random_images


@given(random_images(np.uint8, 3))
def test_autocontrast_fills_the_range(image):
    out = autocontrast(image)
    for c in range(3):
        plane = image[..., c].astype(int)
        low, high = plane.min(), plane.max()
        if low == high:
            assert (out[..., c] == plane).all()
        else:
            exact = (2 * (plane - low) * 255 + (high - low)) // (2 * (high - low))
            assert (out[..., c] == exact).all()


@given(random_images(np.uint8, 3, st.integers(6, 13)))
def test_autocontrast_is_within_a_level_of_pillows(image):
    theirs = np.asarray(ImageOps.autocontrast(Image.fromarray(image))).astype(int)
    assert np.abs(autocontrast(image) - theirs).max() <= 1  # Pillow's truncates


@given(random_images(np.uint8, None, st.integers(3, 13)), st.floats(0, 40), st.floats(0, 40))
def test_percentiles_are_values_of_the_image(image, low, high):
    black = float(np.percentile(image, low, method="inverted_cdf"))
    white = 255 - float(np.percentile(255 - image, high, method="inverted_cdf"))
    out = autocontrast(image, low, high)
    if black < white:
        expected = np.clip((image - black) / (white - black), 0, 1) * 255
        assert np.abs(out - expected).max() <= 0.5 + 1e-6
    else:
        assert (out == image).all()


@given(random_images(np.float64, 3, st.integers(2, 9)), st.floats(0, 40))
def test_floats_arrays_and_tensors(image, low):
    out = autocontrast(image, low, low / 2)
    tensor = autocontrast(torch.from_numpy(image).permute(2, 0, 1), low, low / 2)
    np.testing.assert_allclose(tensor.permute(1, 2, 0).numpy(), out, atol=1e-9)
    for c in range(3):
        black = np.percentile(image[..., c], low, method="inverted_cdf")
        white = -np.percentile(-image[..., c], low / 2, method="inverted_cdf")
        if black < white:
            np.testing.assert_allclose(out[..., c], np.clip((image[..., c] - black) / (white - black), 0, 1), atol=1e-9)


def test_luma_takes_the_same_limits_for_all_channels():
    image = np.array([[[50, 60, 70], [90, 100, 110], [150, 150, 150]]], np.uint8)
    out = autocontrast(image, by="luma").astype(float)
    black, white = 58.15, 150
    np.testing.assert_allclose(out, np.clip(np.floor((image - 58.0) / (150 - 58) * 255 + 0.5), 0, 255))
    floats = autocontrast(image / 255.0, by="luma") * 255
    np.testing.assert_allclose(floats, np.clip((image - black) / (white - black), 0, 1) * 255, atol=1e-9)
    tensor = autocontrast(torch.from_numpy(image / 255.0).permute(2, 0, 1), by="luma").permute(1, 2, 0) * 255
    np.testing.assert_allclose(tensor.numpy(), floats, atol=1e-9)


def test_masks_transparency_and_nan_limit_what_is_looked_at():
    image = np.array([[0, 10, 20, 255]], np.uint8)
    mask = np.array([[False, True, True, False]])
    assert autocontrast(image, mask=mask).tolist() == [[0, 0, 255, 255]]
    assert (autocontrast(image, mask=mask & False) == image).all()
    layered = np.stack([image, np.array([[0, 255, 255, 0]], np.uint8)], -1)
    assert autocontrast(layered, skip_transparent=True)[..., 0].tolist() == [[0, 0, 255, 255]]
    floats = np.array([[np.nan, 0.25, 0.5]])
    for kind in (floats, torch.from_numpy(floats)):
        assert np.asarray(autocontrast(kind))[0, 1:].tolist() == [0, 1]
        hidden = np.asarray(autocontrast(kind, mask=np.array([[True, False, False]])))
        assert hidden[0, 1:].tolist() == [0.25, 0.5]


def test_gradient_reaches_the_limits():
    image = torch.tensor([[0.2, 0.4, 0.8]], dtype=torch.float64, requires_grad=True)
    autocontrast(image)[0, 1].backward()
    np.testing.assert_allclose(image.grad.numpy(), [[-10 / 9, 5 / 3, -5 / 9]])


def test_autocontrast_lut():
    rng = np.random.default_rng(0)
    image = rng.integers(40, 120, (6, 7, 3)).astype(np.uint8)
    for by in ("channel", "luma"):
        lut = autocontrast_lut(image, 2, 3, by=by)
        assert (lut(image) == autocontrast(image, 2, 3, by=by)).all()
        assert ((Lut.invert() @ lut)(image) == 255 - lut(image)).all()
    floats = image / 255.0
    np.testing.assert_allclose(autocontrast_lut(floats)(floats), autocontrast(floats), atol=1e-12)
    tensor = torch.rand(3, 5, 6)
    torch.testing.assert_close(autocontrast_lut(tensor)(tensor), autocontrast(tensor))
    with pytest.raises(ValueError, match="single image"):
        autocontrast_lut(torch.rand(2, 3, 4, 5))


@pytest.mark.parametrize("options", [{"low": -1}, {"high": 101}, {"low": 60, "high": 40}, {"by": "image"}])
def test_wrong_options(options):
    for image in (np.zeros((3, 4), np.uint8), torch.rand(3, 4, 5)):
        with pytest.raises(ValueError, match=next(iter(options))):
            autocontrast(image, **options)


# Thresholds


@given(random_images(np.uint8, 3), st.integers(0, 255))
def test_a_value_is_above_the_threshold_if_it_is_greater(image, value):
    assert (threshold(image, value) == (image > value) * 255).all()
    floats = threshold(image / 255.0, value / 255.0)
    assert (floats == (image / 255.0 > value / 255.0)).all()


@given(random_images(np.uint8, 3), SEEDS)
def test_each_channel_may_have_its_own(image, seed):
    values = np.random.default_rng(seed).integers(0, 256, 3)
    assert (threshold(image, values.tolist()) == (image > values) * 255).all()


@pytest.mark.parametrize("method", ["otsu", "triangle", "li", "yen", "isodata", "minimum"])
def test_methods_are_those_of_the_histogram(method):
    rng = np.random.default_rng(0)
    image = np.concatenate([rng.normal(70, 10, (30, 20, 2)), rng.normal(180, 20, (30, 30, 2))], 1).astype(np.uint8)
    image = np.dstack([image, image[..., :1]])
    cut = getattr(histogram(image), method)()
    assert (threshold(image, method) == (image > cut) * 255).all()


def test_thresholds_are_found_image_by_image_and_under_a_mask():
    batch = torch.stack([torch.tensor([[[10, 20, 30, 200]]]), torch.tensor([[[0, 100, 110, 120]]])]).to(torch.uint8)
    out = threshold(batch)
    assert out[0].tolist() == [[[0, 0, 0, 255]]]
    assert out[1].tolist() == [[[0, 255, 255, 255]]]
    masked = threshold(batch[0], mask=torch.tensor([[1, 1, 1, 0]]))
    assert masked.tolist() == [[[0, 0, 255, 255]]] or masked.tolist() == [[[0, 255, 255, 255]]]


def test_pillow_masks_and_nan():
    image = Image.fromarray(np.array([[10, 200]], np.uint8))
    assert np.asarray(threshold(image, 100)).tolist() == [[0, 255]]
    assert threshold(image, 100).mode == "L"
    out = threshold(np.array([[np.nan, 0.2, 0.8]]), 0.5)
    assert np.isnan(out[0, 0])
    assert out[0, 1:].tolist() == [0, 1]


def test_wrong_thresholds():
    image = np.zeros((3, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="must be one of"):
        threshold(image, "mean")
    with pytest.raises(ValueError, match="3 channels"):
        threshold(image, [1, 2])
    with pytest.raises(ValueError, match="finite"):
        threshold(image, np.nan)
    with pytest.raises(TypeError, match="number"):
        threshold(image, None)


@pytest.mark.parametrize("high", [7.0, np.inf])
@pytest.mark.parametrize("low", [-3.0, -np.inf])
@pytest.mark.parametrize("by", ["channel", "luma"])
def test_autocontrast_of_floats_counts_values_outside_the_range_as_its_ends(low, high, by):
    photo = np.random.default_rng(0).uniform(0.2, 0.8, (5, 6, 3))
    wild = photo.copy()
    wild[1, 2], wild[3, 3] = high, low
    expected = autocontrast(np.clip(wild, 0, 1), 5, 5, by=by)
    np.testing.assert_array_equal(autocontrast(wild, 5, 5, by=by), expected)
    tensor = torch.from_numpy(wild.transpose(2, 0, 1).copy())
    np.testing.assert_allclose(autocontrast(tensor, 5, 5, by=by).numpy().transpose(1, 2, 0), expected, atol=1e-12)
