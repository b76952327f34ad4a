from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cvkit import imgops
from strategies import random_images

LEVELS = np.arange(256, dtype=np.uint8)[None]


@given(st.floats(0.1, 5), st.floats(0, 2))
def test_gamma_is_the_rounded_power(exponent, gain):
    expected = np.clip(np.floor(255 * ((LEVELS / 255.0) ** exponent * gain) + 0.5), 0, 255)
    off = imgops.gamma(LEVELS, exponent, gain=gain) - expected
    assert np.count_nonzero(off) == 0


@pytest.mark.fault("scikit-image/scikit-image#5413")
def test_gain_saturates_instead_of_wrapping():
    out = imgops.gamma(LEVELS, 1.0, gain=1.1)
    assert (np.diff(out.astype(int)) >= 0).all()
    assert out[0, -1] == 255


def test_gradient_of_gamma_at_the_bottom_is_finite():
    image = torch.tensor([[0.0, 0.25]], dtype=torch.float64, requires_grad=True)
    imgops.gamma(image, 0.5).sum().backward()
    assert image.grad.tolist() == [[0.0, 1.0]]


def test_peer_scikit_image():
    exposure = pytest.importorskip("skimage.exposure")
    x = np.linspace(0, 1, 101)[None]
    np.testing.assert_allclose(imgops.gamma(x, 1.7, gain=0.8), exposure.adjust_gamma(x, 1.7, 0.8), atol=1e-12)
    np.testing.assert_allclose(imgops.log(x, gain=0.9), exposure.adjust_log(x, 0.9), atol=1e-12)
    np.testing.assert_allclose(imgops.log(x, inverse=True), exposure.adjust_log(x, inv=True), atol=1e-12)
    np.testing.assert_allclose(imgops.sigmoid(x, cutoff=0.3, gain=6), exposure.adjust_sigmoid(x, 0.3, 6), atol=1e-12)
    np.testing.assert_allclose(imgops.sigmoid(x, inverse=True), exposure.adjust_sigmoid(x, inv=True), atol=1e-12)


@pytest.mark.fault("scikit-image/scikit-image#2591")
def test_sigmoid_of_any_range():
    for image, data_range in (
        (np.full((2, 3), -5.0), (-10, 10)),
        (np.zeros((2, 3)), None),
        (np.ones((2, 3)), (0, 1000)),
    ):
        assert np.isfinite(imgops.sigmoid(image, gain=1e6, data_range=data_range)).all()


@given(random_images(np.uint8))
def test_invert_twice(image):
    back = imgops.invert(imgops.invert(image))
    assert (back == image).all()
    if image.ndim == 2:
        assert (imgops.invert(image) == 255 - image).all()


def test_invert_mirrors_the_range():
    assert imgops.invert(np.array([[-5, 0, 20]], np.int16), data_range=(-10, 20)).tolist() == [[15, 10, -10]]
    assert imgops.invert(np.array([[True, False]])).tolist() == [[False, True]]
    assert imgops.invert(np.array([[16, 235, 255]], np.uint8), data_range=(16, 235)).tolist() == [[235, 16, 16]]


@given(st.integers(2, 256))
def test_posterize_has_evenly_shared_evenly_spaced_values(count):
    out = imgops.posterize(LEVELS, count)
    values, sizes = np.unique(out, return_counts=True)
    assert len(values) == count
    assert values.tolist() == [(i * 510 + count - 1) // (2 * (count - 1)) for i in range(count)]
    assert np.ptp(sizes) <= 1
    assert (np.diff(out.astype(int)) >= 0).all()


def test_solarize_is_pillows():
    for threshold in (0, 100, 128, 255):
        theirs = np.asarray(ImageOps.solarize(Image.fromarray(LEVELS), threshold))
        assert (imgops.solarize(LEVELS, threshold) == theirs).all()
    assert (imgops.solarize(LEVELS) == np.asarray(ImageOps.solarize(Image.fromarray(LEVELS)))).all()
    np.testing.assert_allclose(imgops.solarize(np.array([[0.2, 0.5, 0.9]])), [[0.2, 0.5, 0.1]])


def test_levels_in_the_units_of_the_image():
    image = np.array([[10, 20, 120, 220, 250]], np.uint8)
    assert imgops.levels(image, black=20, white=220).tolist() == [[0, 0, 128, 255, 255]]
    assert imgops.levels(image, black=20, white=220, gamma=2).tolist() == [[0, 0, 180, 255, 255]]
    assert imgops.levels(image, out_black=255, out_white=0).tolist() == (255 - image).tolist()
    assert imgops.levels(image, black=20, white=220, out_black=100, out_white=110).tolist() == [
        [100, 100, 105, 110, 110]
    ]
    assert (imgops.levels(image) == image).all()
    floats = imgops.levels(image / 255.0, black=20 / 255, white=220 / 255)
    np.testing.assert_allclose(floats, [[0, 0, 0.5, 1, 1]])
    ranged = imgops.levels(np.array([[0.0, 5.0, 10.0]]), black=2.5, data_range=(0, 10))
    np.testing.assert_allclose(ranged, [[0, 10 / 3, 10]])


def test_curve_in_the_units_of_the_image():
    points = [(0, 30), (100, 120), (200, 180)]
    out = imgops.curve(LEVELS, points)[0]
    assert (out[0], out[100], out[200], out[255]) == (30, 120, 180, 180)
    scaled = [(x / 255, y / 255) for x, y in points]
    np.testing.assert_allclose(
        imgops.curve(LEVELS / 255.0, scaled) * 255, imgops.curve(LEVELS, points), atol=0.5 + 1e-9
    )


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda i: imgops.levels(i, black=200, white=100), "black"), (lambda i: imgops.levels(i, white=256), "white"),
        (lambda i: imgops.curve(i, [(0, 0), (300, 5)]), "points"), (lambda i: imgops.curve(i, [(0, 0)]), "points"),
        (lambda i: imgops.curve(i, [0, 1]), "points"), (lambda i: imgops.solarize(i, 300), "threshold"),
        (lambda i: imgops.posterize(i, 1), "levels"), (lambda i: imgops.gamma(i, -1.0), "exponent"),
        (lambda i: imgops.log(i, gain=-1), "gain"), (lambda i: imgops.levels(i, threads=0), "threads"),
    ],
)  # fmt: skip
def test_wrong_parameters(call, name):
    with pytest.raises(ValueError, match=name):
        call(LEVELS)


@pytest.mark.fault("scikit-image/scikit-image#1192")
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64", "bool"])
def test_the_dtype_is_always_kept(dtype):
    image = np.ones((3, 4), dtype)
    for call in (imgops.invert, imgops.log, imgops.sigmoid, imgops.solarize, imgops.autocontrast, imgops.equalize):
        assert call(image).dtype == image.dtype
