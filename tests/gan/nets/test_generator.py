from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cvkit.gan import Generator
from cvkit.gan.nets.generator import resolutions


def small(**changes):
    return Generator(3, **{"width": 4, "max_width": 8, "latent_size": 5, **changes})


def latents(count, seed=0, dtype=torch.float32):
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=15)
@given(st.integers(8, 40), st.integers(8, 40), st.integers(1, 5), st.integers(0, 2))
def test_any_size_from_8_and_any_channel_count_comes_out(height, width, channels, blocks):
    network = small(size=(height, width), channels=channels, blocks=blocks).eval()
    images = network(latents(2), torch.tensor([0, 2]))
    assert images.shape == (2, channels, height, width)
    assert images.abs().max() <= 1.0


@given(st.integers(8, 300), st.integers(8, 300))
def test_resolutions_halve_rounding_up(height, width):
    sizes = resolutions((height, width))
    assert sizes[0] == (height, width)
    assert min(sizes[-1]) <= 7 < min(sizes[-2])
    for (h, w), (half_h, half_w) in pairwise(sizes):
        assert (half_h, half_w) == (-(-h // 2), -(-w // 2))


def test_the_sketch_generator_has_no_width_at_full_resolution():
    network = Generator(9)
    assert network.sizes == [(7, 7), (14, 14)]
    assert [up.out_channels for up in network.ups] == [64]
    assert network.head.out_channels == 1


@pytest.mark.fault("autonomousvision/graf#8")
def test_output_depends_on_the_label_from_the_start():
    network = small().eval()
    labels = nn.functional.one_hot(torch.tensor([0, 1]), 3).double()
    same = latents(1).expand(2, -1)
    images = network(same, torch.tensor([0, 1]))
    assert not torch.equal(images[0], images[1])
    # Through the embedding as well as through each norm, once it is trained.
    network(latents(3), torch.tensor([0, 1, 2])).square().sum().backward()
    assert labels.shape == (2, 3)
    assert network.embedding.weight.grad.abs().sum() > 0
    for norm in network.norms:
        assert norm.shift.grad.abs().sum() > 0
        assert norm.gain.grad.abs().sum() > 0


def test_permuting_latents_and_labels_together_permutes_the_images():
    network = small().eval()
    z, labels, order = latents(4), torch.tensor([0, 1, 2, 1]), torch.tensor([3, 1, 0, 2])
    torch.testing.assert_close(network(z, labels)[order], network(z[order], labels[order]))


@pytest.mark.parametrize("headroom", [1.0, 1.1, 2.0])
def test_saturated_pixels_are_exactly_blank_and_can_be_called_back(headroom):
    network = small(headroom=headroom).eval()
    with torch.no_grad():
        network.head.bias.fill_(-3.0)
        network.head.weight.mul_(0.01)
    images = network(latents(2), torch.tensor([0, 1]))
    assert bool((images == -1.0).all()) == (headroom > 1.0)
    images.sum().backward()
    assert network.head.bias.grad.item() > 0  # a pixel at the limit still feels a pull


def test_gradient_is_that_of_the_unclamped_output():
    network = small(headroom=1.5).double().eval()
    hidden = []
    network.head.register_forward_hook(lambda module, args, output: hidden.append(output))
    images = network(latents(1, dtype=torch.float64), torch.tensor([1]))
    (got,) = torch.autograd.grad(images.sum(), hidden[0])
    expected = torch.zeros_like(hidden[0])
    expected[..., :28, :28] = 1.5 * (1 - torch.tanh(hidden[0][..., :28, :28]) ** 2)
    torch.testing.assert_close(got, expected)


def test_channels_last_gives_the_same_images():
    network = small(size=(19, 12), blocks=1).eval()
    other = copy.deepcopy(network).to(memory_format=torch.channels_last)
    z, labels = latents(3), torch.tensor([0, 1, 2])
    torch.testing.assert_close(network(z, labels), other(z, labels), atol=1e-5, rtol=1e-5)


def test_precision_follows_the_weights_and_autocast_ends_at_the_output():
    network = small().eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert network(latents(2), torch.tensor([0, 1])).dtype == torch.float32
    assert network.double()(latents(2, dtype=torch.float64), torch.tensor([0, 1])).dtype == torch.float64


def test_settings_build_the_same_network():
    network = small(size=(9, 21), channels=2, blocks=1, headroom=1.0)
    twin = Generator(**network.settings())
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}
    assert twin.settings() == network.settings()


def test_deep_copies_after_a_forward_pass_work():
    network = small()
    network(latents(2), torch.tensor([0, 1]))
    twin = copy.deepcopy(network)
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), twin.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("classes", 0), ("channels", 0), ("size", (7, 28)), ("latent_size", 0), ("width", 0), ("max_width", 0),
     ("blocks", -1), ("blocks", 257), ("headroom", 0.9)],
)  # fmt: skip
def test_arguments_are_checked_by_name(name, value):
    with pytest.raises(ValueError, match=f"`{name}"):
        Generator(**{"classes": 2, name: value})
