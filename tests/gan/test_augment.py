from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.gan import DiffAugment
from strategies import SEEDS


def draws(augment, count, seed=0):
    return augment.draw(count, generator=torch.Generator().manual_seed(seed))


def slow_translation(image, dy, dx, background):
    """Shift one (C, H, W) array by whole pixels, pixel by pixel."""
    moved = np.full_like(image, background)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            if 0 <= y - dy < height and 0 <= x - dx < width:
                moved[:, y, x] = image[:, y - dy, x - dx]
    return moved


@given(SEEDS, st.integers(1, 3), st.integers(1, 7), st.integers(1, 9), st.floats(0.05, 1.0))
def test_translation_equals_moving_pixel_by_pixel(seed, channels, height, width, share):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, channels, height, width, generator=generator)
    augment = DiffAugment(translation=share, background=-1.0)
    numbers = draws(augment, 3, seed)
    moved = augment(images, numbers)
    for image, result, row in zip(images.numpy(), moved.numpy(), numbers.numpy(), strict=True):
        limits = [int(share * side + 0.5) for side in (height, width)]
        shifts = [min(int(np.float32(row[3 + i]) * np.float32(2 * k + 1)), 2 * k) - k for i, k in enumerate(limits)]
        assert np.array_equal(result, slow_translation(image, *shifts, -1.0))


def test_every_shift_occurs_about_equally_often():
    augment = DiffAugment(translation=0.25)
    images = torch.full((9000, 1, 8, 8), -1.0)
    images[:, 0, 4, 4] = 1.0
    moved = augment(images, draws(augment, 9000))
    rows = moved[:, 0].amax(2).argmax(1) - 4
    counts = torch.bincount(rows + 2, minlength=5)
    assert len(counts) == 5
    assert counts.min() > 0.9 * 1800
    assert counts.max() < 1.1 * 1800


def test_the_largest_draw_below_one_stays_in_range():
    augment = DiffAugment(translation=1.0, cutout=1.0)
    edge = torch.full((1, 7), float(np.nextafter(np.float32(1), np.float32(0))))
    assert augment(torch.zeros(1, 1, 5, 3), edge).shape == (1, 1, 5, 3)


@pytest.mark.fault("mit-han-lab/data-efficient-gans#84")
def test_what_is_uncovered_or_cut_is_blank_paper():
    paper = torch.full((50, 1, 9, 7), -1.0)
    augment = DiffAugment(translation=0.4, cutout=0.5)
    assert torch.equal(augment(paper, draws(augment, 50)), paper)  # no grey box gives a blank sheet away
    grey = DiffAugment(translation=0.4, cutout=0.5, background=0.0)
    assert not torch.equal(grey(paper, draws(grey, 50)), paper)


@given(SEEDS, st.floats(0.1, 1.0))
def test_cutout_blanks_one_box_and_nothing_else(seed, share):
    augment = DiffAugment(translation=0.0, cutout=share)
    images = torch.ones(5, 2, 9, 12)
    for image in augment(images, draws(augment, 5, seed)):
        hole = image[0] == -1.0
        assert torch.equal(hole, image[1] == -1.0)
        rows, columns = hole.any(1), hole.any(0)
        assert torch.equal(hole, rows[:, None] & columns[None, :])
        assert int(rows.sum()) <= int(share * 9 + 0.5)
        assert int(columns.sum()) <= int(share * 12 + 0.5)
        assert hole.any() == (int(share * 9 + 0.5) > 0 and int(share * 12 + 0.5) > 0)


def test_colour_operations_are_their_formulas():
    images = torch.rand(4, 3, 5, 6, dtype=torch.float64)
    numbers = torch.rand(4, 7, generator=torch.Generator().manual_seed(0))
    signs = [numbers[:, i, None, None, None].double() * 2 - 1 for i in range(3)]
    bright = DiffAugment(translation=0.0, brightness=0.5)(images, numbers)
    torch.testing.assert_close(bright, images + 0.5 * signs[0])
    saturated = DiffAugment(translation=0.0, saturation=0.8)(images, numbers)
    mean = images.mean(1, keepdim=True)
    torch.testing.assert_close(saturated, mean + (images - mean) * (1 + 0.8 * signs[1]))
    contrasted = DiffAugment(translation=0.0, contrast=0.3)(images, numbers)
    mean = images.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(contrasted, mean + (images - mean) * (1 + 0.3 * signs[2]))


def test_saturation_leaves_grey_images_alone():
    images = torch.rand(2, 1, 4, 4)
    augment = DiffAugment(translation=0.0, saturation=1.0)
    assert torch.equal(augment(images, draws(augment, 2)), images)


def test_nothing_switched_on_changes_nothing():
    augment = DiffAugment(translation=0.0)
    images = torch.rand(2, 1, 4, 4)
    assert not augment.active
    assert DiffAugment(contrast=0.1, translation=0.0).active
    assert augment(images, draws(augment, 2)) is images


def test_gradients_of_first_and_second_order_are_right():
    augment = DiffAugment(translation=0.3, cutout=0.3, brightness=0.2, saturation=0.5, contrast=0.4)
    numbers = draws(augment, 2)
    images = torch.rand(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: augment(x, numbers), (images,))
    assert torch.autograd.gradgradcheck(lambda x: augment(x, numbers).sin(), (images,))


def test_a_process_gets_what_the_whole_batch_would_have_got():
    augment = DiffAugment(translation=0.3, cutout=0.4, brightness=0.1)
    images = torch.rand(6, 1, 9, 8)
    numbers = draws(augment, 6)
    whole = augment(images, numbers)
    assert torch.equal(torch.cat([augment(images[:3], numbers[:3]), augment(images[3:], numbers[3:])]), whole)


def test_empty_batches_and_single_pixels_pass():
    augment = DiffAugment(translation=0.5, cutout=0.5)
    assert augment(torch.zeros(0, 1, 8, 8), draws(augment, 0)).shape == (0, 1, 8, 8)
    assert augment(torch.zeros(1, 1, 1, 1), draws(augment, 1)).shape == (1, 1, 1, 1)


def test_images_stay_as_they_were_and_memory_formats_do_not_matter():
    augment = DiffAugment(translation=0.3, cutout=0.4)
    images = torch.rand(3, 2, 6, 5)
    before = images.clone()
    numbers = draws(augment, 3)
    moved = augment(images, numbers)
    assert torch.equal(images, before)
    assert torch.equal(augment(images.contiguous(memory_format=torch.channels_last), numbers), moved)


@pytest.mark.parametrize("name", ["translation", "cutout", "brightness", "saturation", "contrast"])
def test_amounts_are_checked(name):
    with pytest.raises(ValueError, match=f"`{name}` must lie in"):
        DiffAugment(**{name: -0.1})


def test_bad_calls_are_refused():
    augment = DiffAugment()
    with pytest.raises(ValueError, match=r"`draws` must have shape \(2, 7\)"):
        augment(torch.zeros(2, 1, 8, 8), torch.zeros(3, 7))
    with pytest.raises(ValueError, match="`images` must be floating and of shape"):
        augment(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2, 7))
    with pytest.raises(ValueError, match="`background` must be finite"):
        DiffAugment(background=float("nan"))
