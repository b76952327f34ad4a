"""Products with band matrices beside sliding the kernel: for tensors every block has its own inputs, for arrays few."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.imgops._kernels import bands
from reference.imgops_smoothing import blur_line, down_line, up_line
from strategies import SEEDS


@given(SEEDS, st.integers(1, 120), st.sampled_from(["smooth", "down", "up"]), st.integers(0, 3))
def test_lines_of_any_length_are_the_slow_ones(seed, length, name, less):
    line = np.random.default_rng(seed).random(length)
    if name == "smooth":
        plan, expected = bands.smooth_plan(1.0 + less, 3.0, length), blur_line(line, 1.0 + less, 3.0)
    elif name == "down":
        plan, expected = bands.down_plan(length), down_line(line)
    else:
        count = max(2 * length - less % 2, 1)
        plan, expected = bands.up_plan(length, count), up_line(line, count)
    planes = np.stack([np.stack([line, 2 * line, -line])] * 2)  # (2, 3, length)
    for values in (planes, torch.from_numpy(planes)):
        along = np.asarray(bands.along_rows(values, plan))
        np.testing.assert_allclose(along[1, 1], 2 * expected, atol=1e-12)
        across = np.asarray(bands.along_columns(values.swapaxes(1, 2), plan))
        np.testing.assert_allclose(across, along.swapaxes(1, 2), atol=1e-12)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4)])
def test_batches_without_pixels(shape):
    assert bands.along_rows(np.zeros(shape), bands.down_plan(4)).shape == (*shape[:2], 2)
    assert bands.along_columns(np.zeros((0, 9, 4)), bands.down_plan(9)).shape == (0, 5, 4)


def test_arrays_of_other_strides_are_read_and_never_written():
    values = np.random.default_rng(0).random((50, 3, 70)).transpose(1, 2, 0)[:, ::-1]
    before = values.copy()
    for function in (bands.along_rows, bands.along_columns):
        length = values.shape[-1 if function is bands.along_rows else -2]
        plan = bands.smooth_plan(1.5, 4.0, length)
        np.testing.assert_allclose(function(values, plan), function(before, plan), atol=1e-14)
    assert (values == before).all()
