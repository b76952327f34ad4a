"""Pointing game and energy in the mask: by hand, against loops, at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.explain.metrics import energy_in_mask, pointing_game

shapes = st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple)
seeds = st.integers(0, 2**31 - 1)


def draw(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64), torch.rand(shape, generator=generator) > 0.5


@given(shapes, seeds, st.integers(0, 3))
def test_pointing_equals_a_search(shape, seed, tolerance):
    maps, masks = draw(shape, seed)
    found = pointing_game(maps, masks, tolerance=tolerance)
    for n in range(shape[0]):
        peak = np.unravel_index(int(maps[n].argmax()), shape[1:])
        near = tuple(slice(max(0, p - tolerance), p + tolerance + 1) for p in peak)
        assert found[n].item() == (bool(masks[n].numpy()[near].any()) and maps[n].numel() > 1)


@given(shapes, seeds)
def test_energy_equals_a_sum(shape, seed):
    maps, masks = draw(shape, seed)
    found = energy_in_mask(maps, masks)
    for n in range(shape[0]):
        positive = np.maximum(maps[n].numpy(), 0)
        expected = (positive * masks[n].numpy()).sum() / positive.sum() if positive.sum() > 0 else 0.0
        assert found[n].item() == pytest.approx(expected, abs=1e-12)
    inside, outside = energy_in_mask(maps, masks), energy_in_mask(maps, ~masks)
    whole = (maps.relu().flatten(1).sum(1) > 0).double()
    torch.testing.assert_close(inside + outside, whole)


def test_constant_and_lost_maps_gain_nothing():
    masks = torch.tensor([[True, False, False], [True, True, True]])
    flat = torch.ones(2, 3)
    assert pointing_game(flat, masks).tolist() == [False, False]
    torch.testing.assert_close(energy_in_mask(flat, masks), torch.tensor([1 / 3, 1.0]))
    lost = torch.full((2, 3), float("nan"))
    assert pointing_game(lost, masks).tolist() == [False, False]
    assert energy_in_mask(lost, masks).tolist() == [0.0, 0.0]
    assert pointing_game(torch.tensor([[2.0, 2.0, 0.0], [2.0, 2.0, 0.0]]), masks).tolist() == [False, True]


def test_masks_of_numbers_halves_and_empty_batches():
    maps = torch.tensor([[0.1, 0.7]], dtype=torch.bfloat16)
    assert pointing_game(maps, torch.tensor([[0, 255]], dtype=torch.uint8)).tolist() == [True]
    assert energy_in_mask(maps, torch.tensor([[0.0, 0.3]])).dtype == torch.float32
    assert pointing_game(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)
    assert energy_in_mask(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)
    assert pointing_game(torch.zeros(2, 0), torch.zeros(2, 0)).tolist() == [False, False]


@pytest.mark.parametrize("measure", [pointing_game, energy_in_mask])
def test_wrong_arguments_are_named(measure):
    maps = torch.zeros(2, 3)
    for arguments, error, message in (
        ((maps, maps[:1]), ValueError, "`masks` must have the shape of `maps`"),
        ((maps.long(), maps), ValueError, "`maps` must be floating"),
        ((maps[0], maps[0]), ValueError, "`maps` must be floating, of shape"),
        ((np.zeros((2, 3)), maps), TypeError, "`maps` must be a tensor"),
        ((maps, None), TypeError, "`masks` must be a tensor"),
    ):
        with pytest.raises(error, match=message):
            measure(*arguments)


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match="`tolerance` must be at least 0"):
        pointing_game(torch.zeros(2, 3), torch.zeros(2, 3), tolerance=-1)


@pytest.mark.parametrize("scale", [1e37, 1e-42])
def test_energy_does_not_depend_on_the_scale(scale):
    maps = torch.ones(1, 40, 50)
    masks = torch.zeros(1, 40, 50)
    masks[:, :10] = 1
    assert energy_in_mask(maps * scale, masks).tolist() == [0.25]
