from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvkit.imgops import gaussian_blur, poisson_blend
from cvkit.imgops.poisson import _shrunk, _sines, _solve_by_lines
from reference.imgops_smoothing import solve_poisson
from strategies import SEEDS


def smooth(seed, shape):
    noise = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    wide = (gaussian_blur(noise, 3).astype(int) - 128) * 4 + 128
    return np.clip(wide, 0, 255).astype(np.uint8)


@given(SEEDS, st.booleans(), st.integers(0, 4))
def test_the_result_solves_the_equation(seed, mixed, shrink):
    rng = np.random.default_rng(seed)
    ground, source = rng.random((2, 11, 13)) * 0.2 + 0.4
    mask = rng.random((11, 13)) < 0.98
    mask[[0, -1], :] = mask[:, [0, -1]] = True
    expected = solve_poisson(ground, source, _shrunk(mask, shrink), mixed).clip(0, 1)
    mode = "mixed" if mixed else "normal"
    np.testing.assert_allclose(poisson_blend(source, ground, mask, mode=mode, shrink=shrink), expected, atol=1e-10)
    tensors = torch.from_numpy(source), torch.from_numpy(ground)
    np.testing.assert_allclose(poisson_blend(*tensors, mask, mode=mode, shrink=shrink).numpy(), expected, atol=1e-10)


@pytest.mark.fault("opencv/opencv#21902")
@pytest.mark.parametrize("shape", ["disc", "box", "odd"])
def test_interior_masks_agree_with_opencv_within_one_level(shape):
    cv2 = pytest.importorskip("cv2")
    source, backdrop = smooth(1, (90, 120, 3)), smooth(2, (140, 180, 3))
    mask = np.zeros((90, 120), np.uint8)
    if shape == "disc":
        cv2.circle(mask, (60, 45), 35, 255, -1)
    elif shape == "box":
        mask[10:70, 20:101] = 255
    else:
        mask[20:60, 30:70] = 255
        mask[40:75, 60:99] = 255
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    offset = (25, 31)
    center = (int(offset[1] + columns[0] + width // 2), int(offset[0] + rows[0] + height // 2))
    peer = cv2.seamlessClone(source, backdrop, mask.copy(), center, cv2.NORMAL_CLONE)
    result = poisson_blend(source, backdrop, mask, offset=offset)
    assert np.abs(result.astype(int) - peer).max() <= 1
    # Red, green and blue are the other way round there, and its grey is rounded to whole levels first.
    flipped = [x[..., ::-1].copy() for x in (source, backdrop)]
    peer = cv2.seamlessClone(*flipped, mask.copy(), center, cv2.MONOCHROME_TRANSFER)[..., ::-1]
    result = poisson_blend(source, backdrop, mask, offset=offset, mode="monochrome")
    assert np.abs(result.astype(int) - peer).max() <= 2


def test_long_sides_go_through_the_fft_with_the_same_result():
    values = np.random.default_rng(0).random((2, 3, 900))
    steps = np.arange(1, 901)
    matrix = np.sin(np.pi / 901 * np.outer(steps, steps))
    np.testing.assert_allclose(_sines(values, -1), values @ matrix, atol=1e-9)
    turned = values.swapaxes(-1, -2).copy()
    np.testing.assert_allclose(_sines(turned, -2), (values @ matrix).swapaxes(-1, -2), atol=1e-9)
    tensor = torch.from_numpy(values)
    np.testing.assert_allclose(_sines(tensor, -1).numpy(), values @ matrix, atol=1e-9)


@pytest.mark.parametrize("shape", [(300, 7), (7, 300), (257, 258), (1023, 5), (5, 1023), (900, 1141), (3, 2000)])
def test_elimination_along_long_sides_solves_the_equation_too(shape):
    right = np.random.default_rng(1).normal(size=shape)
    found = np.pad(_solve_by_lines(right), 1)
    second = found[:-2, 1:-1] + found[2:, 1:-1] + found[1:-1, :-2] + found[1:-1, 2:] - 4 * found[1:-1, 1:-1]
    np.testing.assert_allclose(second, right, atol=1e-9)


def test_single_precision_stays_far_below_a_level():
    image = np.random.default_rng(2).integers(0, 256, (702, 902)).astype(np.float64)
    right = np.diff(image, 2, 0)[:, 1:-1] + np.diff(image, 2, 1)[1:-1]
    assert np.abs(_solve_by_lines(right.astype(np.float32)) - _solve_by_lines(right)).max() < 0.03


@pytest.mark.parametrize("shape", [(300, 40), (40, 300), (280, 270)])
def test_arrays_with_long_sides_equal_tensors(shape):
    rng = np.random.default_rng(3)
    source, backdrop = rng.random((2, *shape, 3)) * 0.2 + 0.4
    mask = rng.random(shape) < 0.999
    result = poisson_blend(source, backdrop, mask)
    tensors = [torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in (source, backdrop)]
    np.testing.assert_allclose(poisson_blend(*tensors, mask).numpy().transpose(1, 2, 0), result, atol=1e-10)


@given(SEEDS, st.sampled_from(["normal", "mixed", "monochrome"]))
def test_blending_a_picture_into_itself_changes_nothing(seed, mode):
    image = smooth(seed, (12, 15))
    mask = np.random.default_rng(seed).random((12, 15)) < 0.8
    assert np.array_equal(poisson_blend(image, image, mask, mode=mode), image)


def test_a_brighter_copy_loses_its_brightness():
    backdrop = smooth(3, (40, 50, 3)) // 2
    result = poisson_blend(backdrop + np.uint8(90), backdrop, np.ones((40, 50), bool))
    assert np.abs(result.astype(int) - backdrop).max() <= 1


def test_the_region_is_shrunk_by_three_pixels():
    region = np.ones((20, 21), bool)
    region[10, 10] = False
    expected = np.zeros((20, 21), bool)
    expected[3:-3, 3:-3] = True
    expected[7:14, 7:14] = False
    assert np.array_equal(_shrunk(region, 3), expected)


@pytest.mark.fault("opencv/opencv#15294")
@pytest.mark.fault("opencv/opencv#10498")
@pytest.mark.fault("opencv/opencv#16833")
@given(SEEDS, st.tuples(st.integers(-12, 12), st.integers(-12, 12)))
def test_regions_anywhere_leave_the_rest_bit_for_bit(seed, offset):
    source, backdrop = smooth(seed, (8, 9, 3)), smooth(seed + 1, (11, 10, 3))
    mask = np.random.default_rng(seed).random((8, 9)) < 0.5
    result = poisson_blend(source, backdrop, mask, offset=offset)
    placed = np.zeros((11, 10), bool)
    for y, x in np.argwhere(mask) + offset:
        if 0 <= y < 11 and 0 <= x < 10:
            placed[y, x] = True
    rows, columns = np.flatnonzero(placed.any(1)), np.flatnonzero(placed.any(0))
    inner = np.zeros((11, 10), bool)
    if len(rows):
        inner[rows[0] + 1 : rows[-1], columns[0] + 1 : columns[-1]] = True
    assert np.array_equal(result[~inner], backdrop[~inner])


@pytest.mark.parametrize("region", ["empty", "one pixel", "two pixels", "one row"])
def test_regions_without_an_inside_change_nothing(region):
    source, backdrop = smooth(5, (9, 9)), smooth(6, (9, 9))
    mask = np.zeros((9, 9), bool)
    mask[
        {"empty": np.s_[:0, :0], "one pixel": np.s_[4, 4], "two pixels": np.s_[4:6, 4], "one row": np.s_[4, :]}[region]
    ] = True
    assert np.array_equal(poisson_blend(source, backdrop, mask), backdrop)


def test_all_kinds_give_the_same_bytes():
    source, backdrop = smooth(7, (20, 24, 3)), smooth(8, (30, 31, 3))
    mask = np.ones((20, 24), np.uint8)
    result = poisson_blend(source, backdrop, mask, offset=(4, 5))
    pictures = poisson_blend(Image.fromarray(source), Image.fromarray(backdrop), Image.fromarray(mask), offset=(4, 5))
    assert np.array_equal(np.asarray(pictures), result)
    tensors = [torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in (source, backdrop)]
    assert np.array_equal(poisson_blend(*tensors, mask, offset=(4, 5)).numpy().transpose(1, 2, 0), result)
    batch = poisson_blend(tensors[0], torch.stack([tensors[1]] * 2), torch.from_numpy(mask), offset=(4, 5))
    assert np.array_equal(batch[1].numpy().transpose(1, 2, 0), result)
    floats = poisson_blend(*(x / 255 for x in tensors), mask, offset=(4, 5))
    assert np.abs(floats.numpy().transpose(1, 2, 0) * 255 - result).max() <= 0.51


def test_alpha_is_left_alone_and_grey_serves_colour():
    backdrop = np.dstack([smooth(9, (20, 20, 3)), np.full((20, 20), 77, np.uint8)])
    source = smooth(10, (20, 20))
    mask = np.ones((20, 20), bool)
    result = poisson_blend(source, backdrop, mask)
    assert (result[..., 3] == 77).all()
    colored = poisson_blend(np.repeat(source[..., None], 3, -1), backdrop[..., :3], mask)
    assert np.array_equal(result[..., :3], colored)
    assert np.array_equal(poisson_blend(source, backdrop, mask, mode="monochrome"), result)


@pytest.mark.parametrize("mode", ["normal", "mixed", "monochrome"])
def test_blending_is_differentiable(mode):
    generator = torch.Generator().manual_seed(0)
    source = torch.rand(3, 6, 7, generator=generator, dtype=torch.float64) * 0.1 + 0.4
    backdrop = torch.rand(3, 6, 7, generator=generator, dtype=torch.float64) * 0.1 + 0.4
    mask = np.ones((6, 7), bool)
    function = lambda s, b: poisson_blend(s, b, mask, mode=mode)  # noqa: E731
    assert torch.autograd.gradcheck(function, (source.requires_grad_(), backdrop.requires_grad_()))


def test_inputs_are_not_written():
    source, backdrop = smooth(1, (9, 9)), smooth(2, (9, 9))
    mask = np.ones((9, 9), np.uint8) * 255
    for one in (source, backdrop, mask):
        one.flags.writeable = False
    assert not np.shares_memory(poisson_blend(source, backdrop, mask), backdrop)
    assert poisson_blend(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)


def test_wrong_arguments_are_refused():
    image = np.zeros((4, 5, 3))
    mask = np.ones((4, 5))
    with pytest.raises(ValueError, match="`mode` must be one of"):
        poisson_blend(image, image, mask, mode="seamless")
    with pytest.raises(TypeError, match="`source` must have the dtype"):
        poisson_blend(image.astype(np.float32), image, mask)
    with pytest.raises(ValueError, match="`mask` must have"):
        poisson_blend(image, image, np.ones((5, 4)))
    with pytest.raises(ValueError, match="one or three colour channels"):
        poisson_blend(np.zeros((4, 5, 4)), np.zeros((4, 5, 4)), mask, mode="monochrome", alpha=False)
