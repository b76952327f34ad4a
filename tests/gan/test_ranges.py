from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given

from cvkit import gan
from strategies import random_images

ALL = np.arange(256, dtype=np.uint8)


def test_every_byte_comes_back_through_both_kinds():
    assert np.array_equal(gan.to_uint8(gan.to_signed(ALL)), ALL)
    assert torch.equal(gan.to_uint8(gan.to_signed(torch.from_numpy(ALL))), torch.from_numpy(ALL))


@given(random_images())
def test_arrays_and_tensors_agree_bit_for_bit(image):
    signed = gan.to_signed(image)
    assert signed.dtype == np.float32
    assert np.array_equal(signed, gan.to_signed(torch.from_numpy(image)).numpy())
    noisy = signed * np.float32(1.3)
    assert np.array_equal(gan.to_uint8(noisy), gan.to_uint8(torch.from_numpy(noisy)).numpy())


def test_the_ends_are_exact_and_halves_round_up():
    assert gan.to_signed(np.array([0, 255], np.uint8)).tolist() == [-1.0, 1.0]
    assert gan.to_uint8(torch.tensor([-2.0, -1.0, 0.0, 1.0, 9.0])).tolist() == [0, 0, 128, 255, 255]


@pytest.mark.fault("pytorch/examples#315")
def test_a_washed_out_image_stays_washed_out():
    # The range is fixed: nothing is stretched to what the image happens to hold.
    assert gan.to_uint8(torch.tensor([-0.1, 0.1])).tolist() == [115, 140]


@pytest.mark.fault("voletiv/self-attention-GAN-pytorch#6")
@pytest.mark.parametrize("images", [np.zeros(3, np.float32), torch.zeros(3), np.zeros(3, np.int64), [0, 255]])
def test_anything_but_bytes_is_refused_on_the_way_in(images):
    with pytest.raises(TypeError, match=r"`images` must be uint8 in \[0, 255\]; got"):
        gan.to_signed(images)


@pytest.mark.parametrize("images", [np.zeros(3, np.uint8), torch.zeros(3, dtype=torch.int32), [0.0]])
def test_anything_but_floats_is_refused_on_the_way_out(images):
    with pytest.raises(TypeError, match=r"`images` must be floating in \[-1, 1\]; got"):
        gan.to_uint8(images)


def test_nan_is_refused_rather_than_drawn():
    for images in (np.array([np.nan], np.float32), torch.tensor([float("nan")])):
        with pytest.raises(ValueError, match="must not hold NaN"):
            gan.to_uint8(images)


def test_arguments_stay_as_they_were():
    image = ALL.copy()
    image.flags.writeable = False
    signed = gan.to_signed(image)
    signed.flags.writeable = False
    gan.to_uint8(signed)
    tensor = torch.from_numpy(ALL.copy())
    before = tensor.clone()
    values = gan.to_signed(tensor)
    kept = values.clone()
    gan.to_uint8(values)
    assert torch.equal(tensor, before)
    assert torch.equal(values, kept)


def test_low_precision_and_non_contiguous_tensors_are_taken():
    values = torch.linspace(-1, 1, 12).view(3, 4).T
    assert torch.equal(gan.to_uint8(values), gan.to_uint8(values.contiguous()))
    assert gan.to_uint8(torch.tensor([1.0], dtype=torch.bfloat16)).item() == 255
