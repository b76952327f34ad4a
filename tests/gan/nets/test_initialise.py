from __future__ import annotations

import pytest
import torch
from torch import nn

from cvkit.gan import Discriminator, Generator
from cvkit.gan.nets.initialise import build, initialise_


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


MAKERS = [
    lambda: Generator(3, width=8, blocks=1),
    lambda: Discriminator(3, width=8),
    lambda: Discriminator(3, width=8, spectral_norm=False),
]


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_seed_builds_the_same_network_and_the_global_generator_stays(make):
    state = torch.get_rng_state()
    first, again, other = (build(make, generator=generator(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("make", MAKERS)
def test_every_number_is_set(make):
    network = make()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.fill_(float("nan"))
    initialise_(network, generator=generator())
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_features_keep_their_size_on_the_way():
    network = build(lambda: Generator(3, width=64), generator=generator())
    sizes = []
    for layer in (*network.ups, network.head):
        layer.register_forward_hook(lambda module, args, output: sizes.append(output.std().item()))
    network(torch.randn(64, 64, generator=generator()), torch.arange(64) % 3)
    assert all(0.1 < size < 1.0 for size in sizes)


def test_spectral_norm_starts_at_the_largest_singular_value():
    network = build(lambda: Discriminator(3, width=8), generator=generator()).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            largest = torch.linalg.svdvals(module.weight.detach().flatten(1))[0].item()
            assert largest == pytest.approx(1.0, abs=0.05)


def test_statistics_start_anew():
    network = Generator(2, width=4)
    network(torch.randn(4, 64), torch.tensor([0, 1, 0, 1]))
    initialise_(network, generator=generator())
    assert all(norm.norm.running_mean.abs().sum() == 0 for norm in network.norms)
    assert all(norm.norm.num_batches_tracked == 0 for norm in network.norms)
