from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit.imgops import Lut, histogram, match_histograms, match_lut, specify_histogram
from reference import imgops_histograms as slow
from strategies import SEEDS, arrays, random_images


def pair(seed, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    low, high = sorted(rng.choice(top, 2, replace=False))
    image = rng.integers(low, high + 1, (47, 53, 3)).astype(dtype)
    reference = np.clip(rng.normal(rng.uniform(0.2, 0.8) * top, rng.uniform(0.05, 0.3) * top, (61, 39, 3)), 0, top)
    return image, reference.astype(dtype)


@given(arrays(np.uint8, None, st.integers(1, 6)), arrays(np.uint8, None, st.integers(1, 6)))
def test_against_the_slow_one(image, reference):
    exact = np.array(slow.matched(image.ravel().tolist(), reference.ravel().tolist())).reshape(image.shape)
    out = match_histograms(image, reference)
    assert np.abs(out - exact).max() <= 0.5 + 1e-6
    np.testing.assert_allclose(match_histograms(image / 255.0, reference / 255.0) * 255, exact, atol=1e-9)


@given(random_images(np.uint8))
def test_matching_to_itself_changes_nothing(image):
    assert (match_histograms(image, image) == image).all()
    assert (match_histograms(image, image, method="skimage") == image).all()
    floats = (image / 255.0).astype(np.float32)
    assert (match_histograms(floats, floats) == floats).all()


def test_the_mean_has_no_bias():
    off = []
    for seed in range(300):
        image, reference = pair(seed)
        if np.ptp(image) > 40:
            off.append(match_histograms(image, reference).mean() - reference.mean())
    assert len(off) > 150
    assert abs(np.mean(off)) < 0.05


@pytest.mark.fault("scikit-image/scikit-image#6209")
@given(SEEDS)
def test_peer_scikit_image(seed):
    exposure = pytest.importorskip("skimage.exposure")
    image, reference = (x[..., 0] for x in pair(seed))
    theirs = exposure.match_histograms(image, reference)  # floats, where no channel axis is given
    ours = match_histograms(image, reference, method="skimage")
    assert (ours == np.floor(theirs + 0.5 + 1e-9)).all()
    np.testing.assert_allclose(
        match_histograms(image * 1.0, reference * 1.0, method="skimage", data_range=(0, 255)), theirs, atol=1e-9
    )


@given(SEEDS)
def test_the_histogram_becomes_the_references(seed):
    rng = np.random.default_rng(seed)
    image = rng.permutation(4096).reshape(64, 64).astype(np.uint16)  # no ties, so every value may go its own way
    reference = rng.integers(0, 60000, (50, 40)).astype(np.uint16)
    out = match_histograms(image, reference)
    for q in (1, 10, 50, 90, 99):
        assert abs(np.percentile(out, q) - np.percentile(reference, q)) < 150


def test_kinds_and_ranges_may_differ():
    image, reference = pair(3)
    expected = match_histograms(image, reference)
    assert (match_histograms(image, reference / 255.0) == expected).all()
    assert (match_histograms(image, torch.from_numpy(reference).permute(2, 0, 1)) == expected).all()
    assert (match_histograms(image, Image.fromarray(reference)) == expected).all()
    assert (match_histograms(image, reference.astype(np.uint16) * 257) == expected).all()
    assert (np.asarray(match_histograms(Image.fromarray(image), reference)) == expected).all()
    wide = match_histograms(image.astype(np.int16), reference.astype(np.int16), data_range=(0, 255))
    assert (wide == expected).all()
    other = match_histograms(image, reference.astype(np.int16), reference_range=(0, 255))
    assert (other == expected).all()
    gray = match_histograms(image, reference[..., 0])
    assert (gray[..., 2] == match_histograms(image[..., 2].copy(), reference[..., 0])).all()


def test_batches():
    images = torch.randint(0, 256, (2, 3, 9, 8), dtype=torch.uint8)
    references = torch.randint(50, 200, (2, 3, 5, 6), dtype=torch.uint8)
    out = match_histograms(images, references)
    for n in range(2):
        assert out[n].equal(match_histograms(images[n], references[n]))
    one = match_histograms(images.double() / 255, references[0].double() / 255)
    assert one[1].equal(match_histograms(images[1].double() / 255, references[0].double() / 255))


def test_masks_choose_what_is_counted():
    image = np.array([[0, 10, 20, 250]], np.uint8)
    reference = np.array([[100, 110, 120, 7]], np.uint8)
    mask = np.array([[True, True, True, False]])
    for scale in (1, 255.0):
        found = match_histograms(
            image / scale, reference / scale, mask=mask, reference_mask=mask, data_range=(0, 255 / scale)
        )
        np.testing.assert_allclose(found * scale, [[100, 110, 120, 120]])
        kept = match_histograms(image / scale, reference / scale, mask=mask & False, data_range=(0, 255 / scale))
        np.testing.assert_allclose(kept * scale, image)
    assert (match_histograms(image, reference, reference_mask=mask & False) == image).all()
    layered = np.stack([image, [[255, 255, 255, 0]]], -1).astype(np.uint8)
    there = np.stack([reference, [[255, 255, 255, 0]]], -1).astype(np.uint8)
    assert match_histograms(layered, there, skip_transparent=True)[..., 0].tolist() == [[100, 110, 120, 120]]


def test_lut():
    image, reference = pair(1)
    lut = match_lut(image, reference)
    assert (lut(image) == match_histograms(image, reference)).all()
    assert ((Lut.invert() @ lut)(image) == 255 - lut(image)).all()
    floats = match_lut(image / 255.0, reference / 255.0)(image / 255.0)
    np.testing.assert_allclose(floats, match_histograms(image / 255.0, reference / 255.0), atol=2e-5)
    with pytest.raises(ValueError, match="single images"):
        match_lut(torch.rand(2, 1, 4, 5), torch.rand(1, 4, 5))


def test_errors():
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match="`reference` must have one colour channel or 3"):
        match_histograms(image, np.zeros((4, 5, 2), np.uint8), alpha=False)
    with pytest.raises(ValueError, match="one image or as many"):
        match_histograms(torch.rand(2, 3, 4, 5), torch.rand(3, 3, 4, 5))
    with pytest.raises(ValueError, match="method"):
        match_histograms(image, image, method="exact")
    with pytest.raises(TypeError, match="`reference`"):
        match_histograms(image, None)


# Specification


def test_a_flat_target_spreads_evenly():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16) // 2
    out = specify_histogram(image, np.ones(256))
    assert np.abs(np.sort(out.ravel()) - np.arange(256.0)).max() <= 1


def test_a_histogram_as_target_is_matching():
    image, reference = pair(2)
    assert (specify_histogram(image, histogram(reference)) == match_histograms(image, reference)).all()
    floats = specify_histogram(image / 255.0, histogram(reference).counts)
    np.testing.assert_allclose(floats, match_histograms(image / 255.0, reference / 255.0), atol=1e-9)
    assert (
        specify_histogram(image, torch.from_numpy(histogram(reference).counts)) == match_histograms(image, reference)
    ).all()


@pytest.mark.parametrize(
    "target",
    [
        np.zeros(4),
        np.array([1.0, -1.0]),
        np.array([1.0, np.nan]),
        np.ones(1),
        np.ones((2, 4)),
        np.ones((1, 1, 4)),
        "flat",
    ],
)
def test_wrong_targets(target):
    with pytest.raises(ValueError, match="target"):
        specify_histogram(np.zeros((4, 5, 3), np.uint8), target)


def test_histogram_of_a_batch_is_no_target():
    with pytest.raises(ValueError, match="of one image"):
        specify_histogram(np.zeros((4, 5, 3), np.uint8), histogram(torch.rand(2, 3, 4, 5)))


@pytest.mark.parametrize("data_range", [(0.05, 0.95), (-3.0, 7.1), (0.0, 255.0)])
@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_matching_to_itself_keeps_every_bit_in_any_range(data_range, kind):
    photo = np.random.default_rng(0).uniform(0.1, 0.9, (19, 23))
    image = torch.from_numpy(photo) if kind == "tensor" else photo
    np.testing.assert_array_equal(np.asarray(match_histograms(image, image, data_range=data_range)), photo)
