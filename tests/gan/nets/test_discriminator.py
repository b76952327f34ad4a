from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cvkit import gan
from cvkit.gan import Discriminator


def small(**changes):
    return Discriminator(3, **{"width": 4, "max_width": 8, **changes})


@settings(max_examples=15)
@given(st.integers(8, 40), st.integers(8, 40), st.integers(1, 5), st.booleans())
def test_any_size_from_8_and_any_channel_count_goes_in(height, width, channels, normalised):
    network = small(size=(height, width), channels=channels, spectral_norm=normalised)
    assert network(torch.zeros(2, channels, height, width), torch.tensor([0, 2])).shape == (2,)


@given(st.integers(8, 30), st.integers(8, 30))
@settings(max_examples=10)
def test_every_pixel_counts(height, width):
    network = small(size=(height, width), spectral_norm=False).double()
    image = torch.rand(1, 1, height, width, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(network(image, torch.tensor([0])).sum(), image)
    assert bool((slope != 0).all())


def test_no_layer_mixes_samples():
    network = small()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    network.eval()
    images, labels = torch.randn(4, 1, 28, 28), torch.tensor([0, 1, 2, 1])
    torch.testing.assert_close(network(images, labels)[2:3], network(images[2:3], labels[2:3]))


@pytest.mark.fault("autonomousvision/graf#8")
def test_the_logit_depends_on_the_label():
    network = small(spectral_norm=False)
    image = torch.rand(1, 1, 28, 28).expand(3, -1, -1, -1)
    assert len(network(image, torch.tensor([0, 1, 2])).unique()) == 3


def largest_singular_value(weight):
    return torch.linalg.svdvals(weight.detach().flatten(1).double())[0].item()


def test_spectral_norm_holds_every_weight_at_one():
    network = small(max_width=16)
    for _ in range(
        200
    ):  # the iteration converges as (s2 / s1) ** (2 n), and the two largest of a fresh weight are close
        network(torch.randn(2, 1, 28, 28), torch.tensor([0, 1]))
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding)]
    assert len(weights) == len(network.convs) + 2
    for weight in weights:
        assert largest_singular_value(weight) == pytest.approx(1.0, abs=0.01)


@pytest.mark.fault("NCAR/miles-credit#394")
def test_an_average_of_a_spectrally_normalised_network_stays_normalised():
    from cvkit.training import Average

    network = small()
    average = Average(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(60):
        images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        network(images, torch.tensor([0, 1, 2, 0])).mean().backward()
        optimizer.step()
        average.update(network, decay=0.9)
    for module in average.module.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # Averaged power vectors would be short and let the weight grow beyond bounds.
            assert largest_singular_value(module.weight) == pytest.approx(1.0, abs=0.15)


def test_evaluation_is_deterministic_and_moves_no_vector():
    network = small().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, labels = torch.randn(2, 1, 28, 28), torch.tensor([0, 1])
    assert torch.equal(network(images, labels), network(images, labels))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_penalty_of_the_network_is_the_mean_over_its_images():
    network = small(spectral_norm=False).double()
    images, labels = torch.randn(3, 1, 28, 28, dtype=torch.float64), torch.tensor([0, 2, 1])
    whole = gan.r1_penalty(lambda x: network(x, labels), images)
    alone = [gan.r1_penalty(lambda x, i=i: network(x, labels[i : i + 1]), images[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(whole, torch.stack(alone).mean())


def test_precision_follows_the_weights_and_autocast_ends_at_the_logits():
    network = small(spectral_norm=False)
    images, labels = torch.randn(2, 1, 28, 28), torch.tensor([0, 1])
    with torch.autocast("cpu", torch.bfloat16):
        assert network(images, labels).dtype == torch.float32
    assert network.double()(images.double(), labels).dtype == torch.float64


def test_deep_copies_after_a_forward_pass_work():
    network = small()
    network(torch.randn(2, 1, 28, 28), torch.tensor([0, 1]))
    twin = copy.deepcopy(network)
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), twin.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    ("name", "value"), [("classes", 0), ("channels", 0), ("size", (28, 7)), ("width", 0), ("max_width", 0)]
)
def test_arguments_are_checked_by_name(name, value):
    with pytest.raises(ValueError, match=f"`{name}"):
        Discriminator(**{"classes": 2, name: value})
