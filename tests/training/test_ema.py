from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cvkit import training
from reference import training_ema, training_problems
from strategies import SEEDS


def net(dtype=torch.float64):
    made = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)).to(dtype)
    training_problems.fill([made])
    return made


def moved(module, seed):
    """Change parameters and buffers as training would."""
    with torch.no_grad():
        for i, tensor in enumerate([*module.parameters(), *module.buffers()]):
            change = torch.randn(tensor.shape, generator=training.generator(seed, i, "move"))
            tensor.add_(change.to(tensor.dtype) if tensor.is_floating_point() else 1)


@given(SEEDS, st.floats(0, 1), st.integers(1, 5))
def test_parameters_follow_the_definition_and_buffers_are_copied(seed, decay, updates):
    live = net()
    average = training.Average(live)
    history = [nn.utils.parameters_to_vector(live.parameters()).tolist()]
    for i in range(updates):
        moved(live, seed + i)
        average.update(live, decay=decay)
        history.append(nn.utils.parameters_to_vector(live.parameters()).tolist())
    found = nn.utils.parameters_to_vector(average.module.parameters())
    expected = torch.tensor(training_ema.average(history, decay), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for own, other in zip(average.module.buffers(), live.buffers(), strict=True):
        assert torch.equal(own, other)


def test_one_call_for_all_equals_the_naive_loop():
    live = net(torch.float32)
    ours, naive = training.Average(live), training.Average(live)
    for step in range(5):
        moved(live, step)
        ours.update(live, decay=0.9)
        training_ema.naive_update(naive.module, live, 0.9)
    for a, b in zip(ours.module.state_dict().values(), naive.module.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_decay_zero_copies_and_decay_one_freezes():
    live = net(torch.float32)
    average = training.Average(live)
    before = [p.clone() for p in average.module.parameters()]
    moved(live, 1)
    average.update(live, decay=1.0)
    assert all(torch.equal(a, b) for a, b in zip(average.module.parameters(), before, strict=True))
    average.update(live, decay=0.0)
    assert all(torch.equal(a, b) for a, b in zip(average.module.parameters(), live.parameters(), strict=True))


@given(SEEDS, st.floats(0, 1))
def test_an_average_lies_between_old_and_new(seed, decay):
    live = net()
    average = training.Average(live)
    old = [p.clone() for p in average.module.parameters()]
    moved(live, seed)
    average.update(live, decay=decay)
    for a, p, q in zip(average.module.parameters(), old, live.parameters(), strict=True):
        assert (a >= torch.minimum(p, q) - 1e-12).all()
        assert (a <= torch.maximum(p, q) + 1e-12).all()


@pytest.mark.fault("NCAR/miles-credit#394")
@pytest.mark.fault("pytorch/pytorch#84053")
def test_power_iteration_vectors_are_copied_and_outputs_stay_bounded():
    live = training_problems.quiet_init(
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)), nn.BatchNorm1d(6))
    )
    optimizer = torch.optim.SGD(live.parameters(), lr=0.5)
    average = training.Average(live)
    for step in range(200):
        x = torch.randn(8, 6, generator=training.generator(0, step, "x"))
        optimizer.zero_grad()
        (live(x) - x.flip(1)).square().mean().backward()
        optimizer.step()
        average.update(live, decay=0.99)
    for own, other in zip(average.module.buffers(), live.buffers(), strict=True):
        assert torch.equal(own, other)
    vectors = dict(average.module.named_buffers())
    assert abs(vectors["0.parametrizations.weight.0._u"].norm().item() - 1) < 1e-5
    unit = torch.nn.functional.normalize(torch.randn(50, 6, generator=training.generator(0, 0, "probe")), dim=1)
    assert (average.module[0](unit) - average.module[0].bias).norm(dim=1).max() < 1.5


def test_the_copy_is_apart_in_eval_mode_and_needs_no_gradient():
    live = net().train()
    average = training.Average(live)
    assert not any(module.training for module in average.module.modules())
    assert not any(p.requires_grad for p in average.module.parameters())
    assert all(module.training for module in live.modules())
    assert all(p.requires_grad for p in live.parameters())
    moved(live, 0)
    assert not torch.equal(average.module[0].weight, live[0].weight)


def test_no_graph_grows_and_the_live_module_is_untouched():
    live = net()
    before = copy.deepcopy(live.state_dict())
    average = training.Average(live)
    average.update(live, decay=0.5)
    assert all(p.grad_fn is None for p in average.module.parameters())
    assert all(torch.equal(value, before[key]) for key, value in live.state_dict().items())


def test_channels_last_stays():
    live = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    average = training.Average(live)
    average.update(live, decay=0.9)
    assert average.module.weight.is_contiguous(memory_format=torch.channels_last)


def test_parameters_that_are_no_floats_are_copied():
    live = nn.Module()
    live.register_parameter("count", nn.Parameter(torch.tensor([1, 2]), requires_grad=False))
    live.register_parameter("weight", nn.Parameter(torch.ones(2)))
    average = training.Average(live)
    live.count.add_(5)
    average.update(live, decay=0.9)
    assert average.module.count.tolist() == [6, 7]


def test_a_module_without_parameters_is_fine():
    average = training.Average(nn.ReLU())
    average.update(nn.ReLU(), decay=0.5)


@given(st.floats(1, 1e4), st.floats(1e2, 1e6))
def test_half_life_halves(images, half_life):
    decay = training.half_life_decay(images, half_life)
    assert decay ** (half_life / images) == pytest.approx(0.5)


def test_half_life_edges():
    assert training.half_life_decay(0, 10) == 1.0
    assert training.half_life_decay(10, 0) == 0.0


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_a_decay_outside_its_range_is_named(decay):
    with pytest.raises(ValueError, match="`decay`"):
        training.Average(net()).update(net(), decay=decay)


def test_only_modules_are_averaged():
    with pytest.raises(TypeError, match="`module`"):
        training.Average([1.0])
