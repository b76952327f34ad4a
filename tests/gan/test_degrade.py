from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkit.gan.degrade import FAULTS, degrade


def drawings(n=16, channels=1, height=28, width=28):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(n, channels, height, width, generator=generator) > 0.8).float()


@settings(max_examples=20)
@given(st.integers(0, 5), st.integers(1, 3), st.integers(8, 33), st.integers(8, 33), st.floats(0, 1))
def test_degraded_images_stay_images(n, channels, height, width, share):
    images = drawings(n, channels, height, width)
    before = images.clone()
    out = degrade(images, share, torch.Generator().manual_seed(0))
    assert out.shape == images.shape
    assert out.dtype == torch.float32
    assert images.equal(before)
    assert not n or (out.min() >= 0 and out.max() <= 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_about_the_share_is_touched(share):
    images = drawings(400)
    out = degrade(images, share, torch.Generator().manual_seed(0))
    touched = (out != images).flatten(1).any(1).float().mean()
    assert abs(touched - share) < 0.1


def test_one_seed_one_result_and_no_global_generator():
    state = torch.get_rng_state()
    a, b, c = (degrade(drawings(), 0.8, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert a.equal(b)
    assert not a.equal(c)
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_changes_pictures_and_keeps_them_pictures(name):
    images = drawings()
    out = FAULTS[name](images, torch.Generator().manual_seed(0))
    assert out.shape == images.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert not out.equal(images)


def test_noise_is_half_normal_of_the_stated_levels():
    paper = torch.zeros(100, 1, 28, 28)
    noise = FAULTS["noise 20"](paper, torch.Generator().manual_seed(0)) * 255
    assert noise.mean().item() == pytest.approx(20 * (2 / torch.pi) ** 0.5, rel=0.02)


def test_shift_moves_by_whole_pixels_and_never_more_than_two():
    dot = torch.zeros(200, 1, 9, 9)
    dot[:, :, 4, 4] = 1
    moved = FAULTS["shift 2"](dot, torch.Generator().manual_seed(0))
    rows, columns = moved.flatten(1).argmax(1) // 9, moved.flatten(1).argmax(1) % 9
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4, 5, 6}
    assert (moved.sum((1, 2, 3)) == 1).all()
    assert len(FAULTS["shift 2"](dot[:0], torch.Generator())) == 0


def test_blur_keeps_the_ink_of_a_lone_dot():
    dot = torch.zeros(1, 1, 9, 9)
    dot[0, 0, 4, 4] = 1
    assert FAULTS["blur"](dot, torch.Generator())[0, 0, 4, 2:7].tolist() == pytest.approx(
        [6 / 256 * k for k in (1, 4, 6, 4, 1)]
    )
