import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.pose import find_peaks
from cvkit.pose.codecs.peaks import DECODERS, blur, blur_radius
from reference import pose_heatmaps


def bump(height, width, x, y, sigma, dtype=torch.float32):
    rows, columns = torch.arange(height, dtype=torch.float64)[:, None], torch.arange(width, dtype=torch.float64)
    return torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)).to(dtype)


@given(
    height=st.integers(3, 40),
    width=st.integers(3, 40),
    u=st.floats(0, 1),
    v=st.floats(0, 1),
    sigma=st.floats(0.8, 3),
    method=st.sampled_from(["taylor", "fit"]),
)
def test_exact_for_a_gaussian_anywhere_on_the_map(height, width, u, v, sigma, method):
    x, y = -0.45 + u * (width - 0.1), -0.45 + v * (height - 0.1)
    found = find_peaks(bump(height, width, x, y, sigma), method).places
    assert (found - torch.tensor([x, y])).abs().max() < 2.5e-5 * max(1, sigma)
    exact = find_peaks(bump(height, width, x, y, sigma, torch.float64), method).places
    assert (exact - torch.tensor([x, y], dtype=torch.float64)).abs().max() < 1e-7


@pytest.mark.fault("ilovepose/DarkPose#38")
@pytest.mark.parametrize("method", ["argmax", "quarter", "taylor", "fit"])
@given(seed=st.integers(0, 10**6))
def test_agrees_with_the_slow_form_on_noisy_maps(method, seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(5, 14, 2)
    x, y = rng.uniform(0.5, width - 1.5), rng.uniform(0.5, height - 1.5)
    heat = bump(height, width, x, y, 1.7, torch.float64).numpy() + rng.normal(0, 0.004, (height, width))
    expected = np.array(getattr(pose_heatmaps, method)(heat))
    place = find_peaks(torch.from_numpy(heat), method).places.numpy()
    home = np.array(pose_heatmaps.argmax(heat))
    assert np.abs(place - np.clip(expected, home - 1, home + 1)).max() < 1e-6


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6), st.sampled_from(sorted(DECODERS)))
def test_maps_of_any_size_give_a_place_near_the_highest_pixel(height, width, seed, method):
    maps = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    found = find_peaks(maps, method)
    assert found.places.shape == (2, 3, 2)
    assert torch.isfinite(found.places).all()
    if method != "dark":
        assert (found.places - find_peaks(maps, "argmax").places).abs().max() <= 1
    torch.testing.assert_close(found.heights, maps.amax((-2, -1)))


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 8))
def test_first_of_equal_pixels_wins_as_in_numpy(seed, height, width):
    maps = torch.randint(0, 3, (5, height, width), generator=torch.Generator().manual_seed(seed)).float()
    flat = maps.flatten(1).numpy().argmax(1)
    found = find_peaks(maps, "argmax").places
    for place, index, heat in zip(found, flat, maps, strict=True):
        if float(heat.min()) == float(heat.max()) and heat.numel() > 1:
            assert place.isnan().all()
        else:
            assert place.tolist() == [index % width, index // width]


def test_a_map_that_is_negative_everywhere_peaks_where_it_is_least_so():
    maps = -bump(7, 9, 3.2, 4.1, 2.0)  # lowest in the middle: the highest pixel is a corner
    for method in DECODERS:
        found = find_peaks(maps - 0.5, method)
        assert found.heights < 0
        assert (found.places - find_peaks(maps, "argmax").places).abs().max() <= 1
    shifted = bump(7, 9, 3.2, 4.1, 2.0) - 2
    assert find_peaks(shifted, "argmax").places.tolist() == [3, 4]  # not (0, 0), not -1


@pytest.mark.parametrize("method", sorted(DECODERS))
def test_no_peak_is_said(method):
    for value in (0.0, 1.0, -3.0, math.nan, math.inf, -math.inf):
        found = find_peaks(torch.full((2, 4, 5), value), method)
        assert found.places.isnan().all()
        assert (found.heights == 0).all()
    maps = bump(5, 6, 2, 3, 1)
    maps[0, 0] = -math.inf
    assert find_peaks(maps, method).places.isnan().all()
    one = find_peaks(torch.tensor([[2.0]]), method)
    assert one.places.tolist() == [0, 0]
    assert one.heights == 2


@pytest.mark.fault("bearpaw/pytorch-pose#16")
@pytest.mark.parametrize("method", ["taylor", "fit", "quarter", "dark"])
def test_no_bias(method):
    generator = torch.Generator().manual_seed(0)
    places = 8 + 16 * torch.rand(4000, 2, generator=generator)
    maps = torch.stack([bump(33, 35, float(x), float(y), 2.0) for x, y in places[:600]])
    error = find_peaks(maps, method).places - places[:600]
    assert error.mean(0).abs().max() < (0.02 if method == "quarter" else 1e-3)


def noise_errors(method, inside):
    generator = torch.Generator().manual_seed(3)
    low, high = (8.0, 55.0) if inside else (-0.45, 63.45)
    places = low + (high - low) * torch.rand(1500, 2, generator=generator)
    maps = torch.stack([bump(64, 64, float(x), float(y), 2.0) for x, y in places])
    maps = (maps + 0.01 * torch.randn(maps.shape, generator=generator)).clamp_min(0)
    return 4 * (find_peaks(maps, method).places - places).norm(dim=-1)  # input pixels at stride 4


@pytest.mark.fault("ilovepose/DarkPose#28")
def test_noise_robustness_reaches_its_figures():
    assert noise_errors("fit", inside=False).mean() <= 0.08
    assert noise_errors("fit", inside=True).mean() <= 0.06
    dark = noise_errors("dark", inside=True)
    assert dark.mean() <= 0.05
    assert dark.max() <= 0.15
    assert noise_errors("taylor", inside=True).mean() > 0.15  # what those two improve on


def test_blur_keeps_constants_to_the_border_and_is_a_gaussian_inside():
    flat = torch.full((2, 7, 9), 3.0)
    torch.testing.assert_close(blur(flat, 2.0), flat)
    spike = torch.zeros(1, 31, 31)
    spike[0, 15, 15] = 1
    found = blur(spike, 2.0)[0]
    assert found[15, 15 + blur_radius(2.0)] > 0
    assert found[15, 15 + blur_radius(2.0) + 1] == 0  # eleven pixels for a sigma of two
    assert abs(float(found[15, 17] / found[15, 15]) - math.exp(-0.5)) < 1e-5


def test_gradient_flows_to_the_maps():
    maps = bump(9, 9, 4.2, 3.9, 1.5, torch.float64)[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda m: find_peaks(m, "taylor").places, (maps,))
    assert torch.autograd.gradcheck(lambda m: find_peaks(m, "fit").places, (maps,), atol=1e-4)


def test_input_is_left_alone_and_errors_are_named():
    maps = torch.rand(2, 5, 5)
    before = maps.clone()
    for method in DECODERS:
        find_peaks(maps, method)
    assert torch.equal(maps, before)
    with pytest.raises(ValueError, match="method"):
        find_peaks(maps, "best")
    with pytest.raises(TypeError, match="floating"):
        find_peaks(maps.long())
    with pytest.raises(TypeError, match="heatmaps"):
        find_peaks([[1.0]])
    with pytest.raises(ValueError, match="h and w"):
        find_peaks(torch.zeros(2, 0, 3))
    with pytest.raises(ValueError, match="sigma"):
        find_peaks(maps, "dark", sigma=0)
    assert find_peaks(torch.zeros(0, 4, 4)).places.shape == (0, 2)


def test_has_no_loop_over_joints_or_images():
    from torch.profiler import profile

    def calls(count):
        maps = torch.rand(count, 16, 32, 24)
        with profile() as recorded:
            find_peaks(maps)
        return sum(event.count for event in recorded.key_averages() if event.key.startswith("aten::"))

    calls(1)
    assert calls(2) == calls(9)
