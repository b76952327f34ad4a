from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit.imgops import blend_by_masks, histogram, invert, luma, tone_masks
from strategies import SEEDS, random_images

SOFTNESS = st.sampled_from([0.0, 0.1, 0.5, 1.0])


@given(random_images(np.uint8, st.sampled_from([None, 1, 2, 3, 4])), st.integers(1, 6), SOFTNESS)
def test_masks_sum_to_exactly_one_in_any_order(image, classes, softness):
    masks = tone_masks(image, classes, softness=softness)
    assert masks.shape == (classes, *image.shape[:2])
    assert masks.dtype == np.float32
    assert (masks >= 0).all()
    total = np.zeros(image.shape[:2], np.float32)
    for mask in masks[np.random.default_rng(0).permutation(classes)]:
        total += mask
    assert (total == 1).all()
    assert (masks * 2**15 == np.rint(masks * 2**15)).all()


@given(random_images(np.float64, st.sampled_from([None, 3])), SOFTNESS, SEEDS)
def test_masks_of_floats_and_tensors(image, softness, seed):
    cuts = sorted(np.random.default_rng(seed).random(3).tolist())
    masks = tone_masks(image, cuts, softness=softness)
    assert (masks.sum(0) == 1).all()
    tensor = torch.from_numpy(image if image.ndim == 2 else image.transpose(2, 0, 1).copy())
    same = tone_masks(tensor, cuts, softness=softness)
    assert same.dtype == torch.float32
    assert (same.sum(0) == 1).all()
    assert np.abs(same.numpy() - masks).max() <= 2**-14


@given(random_images(np.uint8, None), st.lists(st.integers(0, 255), min_size=1, max_size=4))
def test_hard_masks_are_the_classes(image, cuts):
    cuts = sorted(cuts)
    masks = tone_masks(image, cuts, softness=0)
    assert (masks.argmax(0) == sum((image > cut).astype(int) for cut in cuts)).all()
    assert set(np.unique(masks)) <= {0, 1}


def test_default_classes_are_thirds():
    ramp = np.arange(256, dtype=np.uint8)[None]
    shadows, midtones, highlights = tone_masks(ramp, softness=0)
    assert (shadows.sum(), midtones.sum(), highlights.sum()) == (86, 85, 85)
    assert np.flatnonzero(midtones[0])[0] == 86


@given(SOFTNESS, st.lists(st.integers(1, 254), min_size=1, max_size=5))
def test_soft_masks_change_monotonely_and_at_most_two_meet(softness, cuts):
    masks = tone_masks(np.arange(256, dtype=np.uint8)[None], sorted(cuts), softness=softness)[:, 0]
    above = np.cumsum(masks[::-1], 0)[::-1]  # share of this class and all lighter ones
    assert (np.diff(above, axis=1) >= 0).all()
    assert ((masks > 0).sum(0) <= 2).all()


def test_softness_is_the_share_of_the_distance_to_the_neighbour():
    ramp = np.linspace(0, 1, 1001)[None]
    dark, light = tone_masks(ramp, [0.4], softness=0.5)
    inside = np.flatnonzero((dark[0] > 0) & (dark[0] < 1))
    assert abs(inside[0] - 300) <= 3
    assert abs(inside[-1] - 500) <= 3
    assert light[0, 400] == 0.5


def test_number_of_classes_is_found_by_otsu():
    rng = np.random.default_rng(0)
    image = np.concatenate([rng.normal(m, 6, (20, 20)) for m in (40, 120, 210)], 1).astype(np.uint8)
    masks = tone_masks(image, 3, softness=0)
    assert [m.sum() for m in masks] == [400, 400, 400]
    cuts = histogram(image).multi_otsu(3)[0]
    assert (masks == tone_masks(image, cuts.tolist(), softness=0)).all()
    left = np.zeros(image.shape, bool)
    left[:, :40] = True
    assert (tone_masks(image, 2, softness=0, mask=left)[1, :, 20:] == 1).all()


def test_colour_images_go_by_their_luma():
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3)).astype(np.uint8)
    assert (tone_masks(image, 4) == tone_masks(luma(image), 4)).all()
    with pytest.raises(ValueError, match="luma needs"):
        tone_masks(np.zeros((3, 4, 5)), channel_axis=-1)


def test_every_image_of_a_batch_has_its_own_classes():
    batch = torch.stack([torch.rand(3, 6, 7) * 0.3, torch.rand(3, 6, 7) * 0.3 + 0.6])
    masks = tone_masks(batch, 2)
    assert masks.shape == (2, 2, 6, 7)
    for n in range(2):
        assert masks[:, n].equal(tone_masks(batch[n], 2))
    whole = tone_masks((batch * 255).to(torch.uint8), 2)
    assert whole.shape == (2, 2, 6, 7)
    assert isinstance(whole, torch.Tensor)
    assert tone_masks(batch[:0], 3).shape == (3, 0, 6, 7)
    assert tone_masks(batch[:0].to(torch.uint8), [1, 2]).shape == (3, 0, 6, 7)


def test_nan_is_dark_and_wide_integers_work():
    for kind in (np.array([[np.nan, 0.9]]), torch.tensor([[torch.nan, 0.9]])):
        masks = tone_masks(kind, softness=0.5)
        assert masks[:, 0, 0].tolist() == [1, 0, 0]
    masks = tone_masks(np.array([[-100000, 0, 100000]], np.int32), data_range=(-100000, 100000), softness=0)
    assert masks.argmax(0).tolist() == [[0, 1, 2]]
    assert (
        tone_masks(np.array([[-100000, 100000]], np.int32), 2, data_range=(-100000, 100000)).argmax(0) == [[0, 1]]
    ).all()


@pytest.mark.parametrize(
    ("thresholds", "error"),
    [([0.5, 0.4], ValueError), ([1.5], ValueError), ([np.nan], ValueError), (0, ValueError), (["a"], TypeError)],
)
def test_wrong_thresholds(thresholds, error):
    with pytest.raises(error, match="thresholds"):
        tone_masks(np.zeros((3, 4)), thresholds)


def test_wrong_softness():
    with pytest.raises(ValueError, match="softness"):
        tone_masks(np.zeros((3, 4)), softness=1.5)


def test_masks_pass_the_slope_of_their_transitions():
    image = torch.tensor([[0.35, 0.9]], dtype=torch.float64, requires_grad=True)
    dark, _, light = tone_masks(image, softness=1.0)
    dark.sum().backward()
    step = 1e-5
    place = [(0.35 + k * step - 1 / 3) * 3 + 0.5 for k in (0, 1)]
    slope = -np.diff([p * p * (3 - 2 * p) for p in place])[0] / step
    assert image.grad[0, 0] == pytest.approx(slope, rel=1e-3)
    assert image.grad[0, 1] == 0
    assert light.requires_grad


# Blending


@given(random_images(np.uint8), SOFTNESS)
def test_no_edit_means_no_change(image, softness):
    masks = np.stack(list(tone_masks(image[..., 0] if image.ndim == 3 else image, 3, softness=softness)))
    for same in (
        image,
        image.astype(np.uint16) * 200,
        (image / 255.0).astype(np.float32),
        (image / 255.0).astype(np.float16),
    ):
        assert (blend_by_masks([same] * 3, masks) == same).all()


def test_sums_of_products_would_not_do():
    # In float32 `sum m_i p` misses p at some pixels, `p0 + sum m_i (p_i - p0)` at none.
    image = np.random.default_rng(0).random((60, 70)).astype(np.float32)
    masks = tone_masks(image, 3)
    assert (sum(m * image for m in masks) != image).any()
    assert (blend_by_masks([image] * 3, masks) == image).all()


@given(random_images(np.uint8, st.sampled_from([None, 1, 3])), SEEDS, st.integers(2, 4))
def test_integers_are_the_exact_value_rounded_half_up(image, seed, count):
    rng = np.random.default_rng(seed)
    images = [image, *(rng.integers(0, 256, image.shape).astype(np.uint8) for _ in range(count - 1))]
    luma_like = rng.integers(0, 256, image.shape[:2]).astype(np.uint8)
    masks = tone_masks(luma_like, count)
    out = blend_by_masks(images, masks)
    spread = masks.astype(np.float64)[..., None] if image.ndim == 3 else masks.astype(np.float64)
    exact = images[0] + sum(m * (p.astype(np.float64) - images[0]) for m, p in zip(spread[1:], images[1:], strict=True))
    assert (out == np.floor(exact + 0.5)).all()
    wide = [p.astype(np.uint16) * 257 for p in images]
    assert (blend_by_masks(wide, masks) == np.floor(exact * 257 + 0.5)).all()


@given(SEEDS, st.sampled_from(["uint8", "uint16", "bool", "float32", "float64"]))
def test_two_images_and_a_mask_of_any_dtype(seed, dtype):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    if dtype == "bool":
        mask, scale = rng.random((5, 7)) > 0.5, 1
        pair = [~mask, mask]
    elif dtype.startswith("float"):
        mask, scale = rng.random((5, 7)).astype(dtype), 1
        pair = [1 - mask, mask]
    else:
        scale = np.iinfo(dtype).max
        mask = rng.integers(0, scale, (5, 7), endpoint=True).astype(dtype)
        pair = [scale - mask, mask]
    out = blend_by_masks([a, b], pair)
    for y, x, c in np.ndindex(5, 7, 3):
        weight = Fraction(float(mask[y, x])) / scale if dtype.startswith("float") else Fraction(int(mask[y, x]), scale)
        exact = int(a[y, x, c]) + weight * (int(b[y, x, c]) - int(a[y, x, c]))
        assert out[y, x, c] == (2 * exact + 1) // 2
    planar = [torch.from_numpy(p).permute(2, 0, 1).contiguous() for p in (a, b)]
    assert (blend_by_masks(planar, pair).permute(1, 2, 0).numpy() == out).all()


def test_layouts_may_differ():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 6, 9, 3)).astype(np.uint8)
    right = rng.random((6, 9))
    expected = blend_by_masks([a, b], [1 - right, right])
    assert (blend_by_masks([a, np.asfortranarray(b)], [1 - right, right]) == expected).all()
    assert (blend_by_masks([np.asfortranarray(a), b[::-1][::-1]], [1 - right, right]) == expected).all()
    odd = np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, 2)), 2, 1)  # channels between rows and columns
    assert (blend_by_masks([odd, b], [1 - right, right]) == expected).all()
    cropped = np.pad(a, [(0, 0), (0, 2), (0, 0)])[:, :9]
    assert (blend_by_masks([cropped, b], [1 - right, right]) == expected).all()
    photos = blend_by_masks([Image.fromarray(a), Image.fromarray(b)], [1 - right, right])
    assert (np.asarray(photos) == expected).all()


def test_pillow_masks():
    black, white = Image.new("RGB", (4, 3)), Image.new("RGB", (4, 3), "white")
    mask = Image.new("L", (4, 3), 51)
    out = blend_by_masks([black, white], [invert(mask), mask])
    assert np.asarray(out).tolist() == np.full((3, 4, 3), 51).tolist()


def test_differing_alpha_weighs_colours_by_what_they_cover():
    clear_red = np.broadcast_to(np.array([255, 0, 0, 0], np.uint8), (2, 3, 4))
    solid_blue = np.broadcast_to(np.array([0, 0, 255, 255], np.uint8), (2, 3, 4))
    half = np.full((2, 3), 0.5)
    expected = [0, 0, 255, 128]  # no red fringe
    assert blend_by_masks([clear_red, solid_blue], [half, half])[0, 0].tolist() == expected
    floats = blend_by_masks([clear_red / 255.0, solid_blue / 255.0], [half, half])
    np.testing.assert_allclose(floats[0, 0], [0, 0, 1, 0.5])
    tensors = [torch.tensor(x.copy() / 255.0).permute(2, 0, 1).requires_grad_() for x in (clear_red, solid_blue)]
    out = blend_by_masks(tensors, torch.from_numpy(np.stack([half, half])))
    np.testing.assert_allclose(out[:, 0, 0].detach().numpy(), [0, 0, 1, 0.5])
    out.sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in tensors)
    clear = [x * 0 for x in (clear_red, solid_blue)]
    assert (blend_by_masks(clear, [half, half]) == 0).all()
    assert (blend_by_masks([c / 1.0 for c in clear], [half, half]) == 0).all()


def test_gradcheck_of_images_and_masks():
    images = [torch.rand(1, 3, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    raw = torch.rand(3, 2, 3, dtype=torch.float64)
    masks = raw / raw.sum(0)

    def blend(*args):
        return blend_by_masks(args[:3], torch.stack([1 - args[3] - args[4], args[3], args[4]]))

    inner = [masks[k].clone().requires_grad_() for k in (1, 2)]
    assert torch.autograd.gradcheck(blend, (*images, *inner))


def test_results_stay_inside_the_images():
    rng = np.random.default_rng(0)
    images = [rng.random((8, 9)) for _ in range(4)]
    out = blend_by_masks(images, tone_masks(images[0], 4))
    assert (out >= np.min(images, 0) - 1e-12).all()
    assert (out <= np.max(images, 0) + 1e-12).all()


def test_errors():
    image = np.zeros((3, 4), np.uint8)
    ones = np.ones((1, 3, 4))
    with pytest.raises(ValueError, match="at least one image"):
        blend_by_masks([], [])
    with pytest.raises(ValueError, match="a mask for each of 2"):
        blend_by_masks([image, image], ones)
    with pytest.raises(TypeError, match=r"`images\[1\]` must have the dtype"):
        blend_by_masks([image, image / 2.0], np.concatenate([ones, ones * 0]))
    with pytest.raises(ValueError, match=r"`images\[1\]` must have the size"):
        blend_by_masks([image, image[:2]], np.concatenate([ones, ones * 0]))
    with pytest.raises(ValueError, match=r"`masks\[0\]` must have the image's height"):
        blend_by_masks([image], ones[:, :2])
    with pytest.raises(TypeError, match="the same dtype"):
        blend_by_masks([image, image], [ones[0], ones[0].astype(np.float32)])
    for bad in (ones * 0.9, ones * np.nan):
        for kind in (image, image / 255.0, torch.zeros(3, 4)):
            with pytest.raises(ValueError, match="must sum to one"):
                blend_by_masks([kind], bad)
    with pytest.raises(TypeError, match=r"`masks\[0\]` must be"):
        blend_by_masks([image], ones.astype(np.int64))
    assert blend_by_masks([np.zeros((0, 4))], np.zeros((1, 0, 4))).shape == (0, 4)
    assert blend_by_masks([torch.zeros(0, 3, 4, 5)], torch.zeros(1, 0, 4, 5)).shape == (0, 3, 4, 5)


@pytest.mark.parametrize("weight", [0.9, np.nan])
@pytest.mark.parametrize("pictures", ["colour", "alpha", "floats"])
def test_masks_that_do_not_sum_to_one_are_refused_whatever_the_pictures(weight, pictures):
    a, b = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 4), dtype=np.uint8)
    images = {"colour": [a[..., :3], b[..., :3]], "alpha": [a, b], "floats": [a / 255, b / 255]}[pictures]
    mask = np.full((5, 6), weight)
    with pytest.raises(ValueError, match="`masks` must sum to one"):
        blend_by_masks(images, [mask, mask])


@pytest.mark.parametrize("pictures", ["colour", "alpha", "floats", "tensors"])
def test_negative_masks_are_refused_though_they_sum_to_one(pictures):
    a, b = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 4), dtype=np.uint8)
    images = {
        "colour": [a[..., :3], b[..., :3]],
        "alpha": [a, b],
        "floats": [a / 255, b / 255],
        "tensors": [torch.zeros(3, 5, 6), torch.ones(3, 5, 6)],
    }[pictures]
    masks = np.stack([np.full((5, 6), 2.0), np.full((5, 6), -1.0)])
    with pytest.raises(ValueError, match=r"`masks\[1\]` must lie in \[0, 1\]; got -1"):
        blend_by_masks(images, torch.from_numpy(masks) if pictures == "tensors" else masks)
