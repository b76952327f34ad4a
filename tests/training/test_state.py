from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from cvkit import training
from cvkit.training import precision
from cvkit.training.state import _step_unless
from reference.training_problems import equal, fill, gan_batches, gan_state, gan_step, line_state, quiet_init, snapshot
from strategies import SEEDS

OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "adam": (torch.optim.Adam, {"lr": 0.1}),
    "fused adam": (torch.optim.Adam, {"lr": 0.1, "fused": True}),
    "adamw": (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01}),
}


def run_of(network, optimizer, **options):
    return training.State({"network": network}, {"network": optimizer}, **options)


def network(dtype=torch.float32):
    made = quiet_init(lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))).to(dtype)
    fill([made])
    return made


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_update_does_what_the_plain_loop_does_bit_for_bit(kind):
    build, options = OPTIMIZERS[kind]
    ours, plain = network(), network()
    state = run_of(ours, build(ours.parameters(), **options))
    optimizer = build(plain.parameters(), **options)
    for step in range(4):
        x = torch.randn(7, 3, generator=training.generator(0, step, "x"))
        result = training.update(state, "network", ours(x).square().mean())
        optimizer.zero_grad()
        loss = plain(x).square().mean()
        loss.backward()
        optimizer.step()
        assert torch.equal(result.loss, loss.detach())
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))


@given(SEEDS, st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=15)
def test_accumulated_parts_equal_the_whole_batch(seed, parts, size):
    x = torch.randn(parts * size, 3, generator=training.generator(seed, 0, "x"), dtype=torch.float64)
    found = []
    for pieces in (1, parts):
        net = network(torch.float64)
        state = run_of(net, torch.optim.Adam(net.parameters(), lr=0.1))
        losses = (net(part).square().mean() for part in x.chunk(pieces))
        found.append((training.update(state, "network", losses), nn.utils.parameters_to_vector(net.parameters())))
    (whole, a), (accumulated, b) = found
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(whole.loss, accumulated.loss)
    torch.testing.assert_close(whole.gradient_norm, accumulated.gradient_norm)


def test_only_one_part_of_an_accumulated_loss_holds_its_graph():
    net, alive, most = network(), 0, 0

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            nonlocal alive
            alive -= 1
            return gradient

    state = run_of(net, torch.optim.SGD(net.parameters(), lr=0.1))
    training.update(state, "network", (Counted.apply(net(torch.ones(1, 3))).mean() for _ in range(5)))
    assert (alive, most) == (0, 1)


@given(SEEDS, st.floats(1e-3, 1e3))
def test_clipping_equals_that_of_torch(seed, limit):
    ours, plain = network(), network()
    x = 10 * torch.randn(4, 3, generator=training.generator(seed, 0, "x"))
    state = run_of(ours, torch.optim.SGD(ours.parameters(), lr=1.0))
    result = training.update(state, "network", ours(x).square().sum(), clip=limit)
    plain(x).square().sum().backward()
    norm = nn.utils.clip_grad_norm_(plain.parameters(), limit)
    torch.testing.assert_close(result.gradient_norm, norm)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_gradients_go_to_the_parameters_of_the_optimiser_alone():
    state = gan_state()
    batch = next(gan_batches()(0))
    gan_step(state, batch)
    d = state.modules["discriminator"]
    d.zero_grad(set_to_none=True)
    loss = d(state.modules["generator"](torch.ones(3, 4))).mean()
    training.update(state, "generator", loss)
    assert all(p.grad is None for p in d.parameters())


def test_parameters_without_gradient_stay_and_frozen_ones_are_left_out():
    net = network()
    net[0].requires_grad_(False)
    spare = nn.Parameter(torch.ones(2))
    state = run_of(net, torch.optim.SGD([*net.parameters(), spare], lr=0.1, weight_decay=1.0))
    before = snapshot(state)
    training.update(state, "network", net(torch.ones(2, 3)).mean())
    assert torch.equal(net[0].weight, before["module network 0.weight"])
    assert spare.tolist() == [1, 1]
    assert not torch.equal(net[2].weight, before["module network 2.weight"])


def test_a_loss_that_reaches_no_parameter_updates_nothing():
    net = network()
    state = run_of(net, torch.optim.SGD(net.parameters(), lr=0.1))
    before = snapshot(state)
    result = training.update(state, "network", torch.ones((), requires_grad=True) * 2)
    assert result.gradient_norm == 0
    assert equal(snapshot(state), before)


@pytest.mark.fault("kyutai-labs/pocket-tts#262")
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_loss_changes_neither_parameters_nor_moments_nor_counters(kind, value):
    build, options = OPTIMIZERS[kind]
    net = network()
    state = run_of(net, build(net.parameters(), **options))
    training.update(state, "network", net(torch.ones(2, 3)).mean())
    before = snapshot(state)
    state.step = 7
    training.update(state, "network", net(torch.ones(2, 3)).mean() * value)
    state.step = 8
    training.update(state, "network", net(torch.ones(2, 3)).mean())  # good again, but the run is lost
    assert equal(snapshot(state), before)
    with pytest.raises(training.DivergenceError, match="step 7: the loss of network") as caught:
        training.check_finite_so_far(state)
    assert (caught.value.step, caught.value.where) == (7, "loss of network")


class BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


def test_a_bad_gradient_under_a_good_loss_is_found_and_its_tensor_named():
    state = gan_state()
    before = snapshot(state)
    g, d = state.modules["generator"], state.modules["discriminator"]
    bias = BadGradient.apply(g[3].bias)
    fake = F.linear(torch.ones(2, 8), g[3].weight, bias)
    training.update(state, "generator", d(fake).mean())
    after = snapshot(state)
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("module generator"))
    with pytest.raises(training.DivergenceError, match=r"gradient of generator\.3\.bias in the update of generator"):
        training.check_finite_so_far(state)


def test_a_bad_gradient_of_a_foreign_parameter_is_still_found():
    state = line_state()
    odd = nn.Parameter(torch.ones(2))
    state.optimizers["odd"] = torch.optim.SGD([odd], lr=0.1)
    training.update(state, "odd", BadGradient.apply(odd).sum())
    with pytest.raises(training.DivergenceError, match="gradient of a parameter in the update of odd"):
        training.check_finite_so_far(state)
    assert odd.tolist() == [1, 1]


def test_one_bad_network_stops_the_others_too():
    state = gan_state()
    g = state.modules["generator"]
    training.update(state, "discriminator", state.modules["discriminator"](torch.ones(2, 12)).mean() * float("nan"))
    before = snapshot(state)
    training.update(state, "generator", g(torch.ones(2, 4)).mean())
    after = snapshot(state)
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("optimizer"))


def test_good_numbers_raise_nothing_and_the_ban_can_be_lifted():
    state = line_state()
    net = state.modules["network"]
    training.update(state, "network", net(torch.ones(1, 3)).mean())
    training.check_finite_so_far(state)
    training.update(state, "network", net(torch.ones(1, 3)).mean() * float("inf"))
    for _ in range(2):
        with pytest.raises(training.DivergenceError):
            training.check_finite_so_far(state)
    state.forget_bad_numbers()
    training.check_finite_so_far(state)
    before = net.weight.clone()
    training.update(state, "network", net(torch.ones(1, 3)).mean())
    assert not torch.equal(net.weight, before)


@pytest.mark.parametrize("bad", [False, True])
def test_the_fused_kernel_obeys_the_flag_on_the_device(bad):
    """What happens on a GPU, where the host never looks at the flag: the CPU's fused kernel takes the same argument."""
    net, plain = network(), network()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1, fused=True)
    reference = torch.optim.Adam(plain.parameters(), lr=0.1, fused=True)
    for made, steps in ((net, optimizer), (plain, reference)):
        made(torch.ones(2, 3)).mean().backward()
        steps.step()
    before = copy.deepcopy(optimizer.state_dict()), [p.clone() for p in net.parameters()]
    optimizer.found_inf = torch.tensor(float(bad))
    optimizer.step()
    reference.step()
    expected = before[1] if bad else list(plain.parameters())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), expected, strict=True))
    steps = [moments["step"].item() for moments in optimizer.state_dict()["state"].values()]
    assert steps == [1.0 if bad else 2.0] * len(steps)


def test_an_unfused_optimiser_asks_the_flag():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.ones(1, 3)).mean().backward()
    before = [p.clone() for p in net.parameters()]
    _step_unless(optimizer, torch.ones(()))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
    _step_unless(optimizer, torch.zeros(()))
    assert not torch.equal(net[2].bias, before[3])


@pytest.mark.parametrize(
    ("loss", "error", "words"),
    [
        (torch.ones(()), ValueError, "need a gradient"),
        (torch.ones(2, requires_grad=True) * 1, ValueError, "0-d"),
        ([], ValueError, "empty"),
    ],
)
def test_losses_that_are_none_are_refused(loss, error, words):
    with pytest.raises(error, match=words):
        training.update(line_state(), "network", loss)


def test_unknown_optimisers_and_bad_limits_are_refused():
    state = line_state()
    loss = state.modules["network"](torch.ones(1, 3)).mean()
    with pytest.raises(KeyError):
        training.update(state, "other", loss)
    with pytest.raises(ValueError, match="`clip`"):
        training.update(state, "network", loss, clip=0.0)


def test_states_draw_from_seed_step_and_purpose():
    state = line_state(seed=4)
    a = torch.randn(3, generator=state.generator("z"))
    state.step = 1
    b = torch.randn(3, generator=state.generator("z"))
    assert not torch.equal(a, b)
    assert torch.equal(b, torch.randn(3, generator=training.generator(4, 1, "z")))
    assert state.generator("z", device="cpu").device.type == "cpu"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "`batch_size`"),
        ({"precision": "float16"}, "`precision`"),
        ({"batch_size": 3, "world": training.World(0, 2)}, "multiple of their number, 2; got 3"),
        ({"world": training.World(device=torch.device("meta"))}, r"network\.0\.weight is on cpu"),
    ],
)
def test_bad_states_are_refused(options, words):
    net = network()
    with pytest.raises(ValueError, match=words):
        run_of(net, torch.optim.SGD(net.parameters(), lr=0.1), **options)


def test_autocast_computes_in_bfloat16_and_trains_in_float32():
    net = network()
    state = run_of(net, torch.optim.SGD(net.parameters(), lr=0.1))
    with state.autocast():
        assert net(torch.ones(1, 3)).dtype == torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = run_of(net, torch.optim.SGD(net.parameters(), lr=0.1), precision="bfloat16")
    before = net[0].weight.clone()
    with state.autocast():
        out = net(torch.ones(1, 3))
        loss = out.float().square().mean()
    assert out.dtype == torch.bfloat16
    training.update(state, "network", loss)
    assert net[0].weight.dtype == torch.float32
    assert not torch.equal(before, net[0].weight)


@pytest.mark.parametrize("native", [True, False])
def test_auto_takes_bfloat16_only_where_it_is_native(native, monkeypatch):
    monkeypatch.setattr("cvkit.training.state.probe_bfloat16", lambda device: precision.Bfloat16(native, float("nan")))
    net = network()
    state = run_of(net, torch.optim.SGD(net.parameters(), lr=0.1), precision="auto")
    assert state.precision == ("bfloat16" if native else "float32")


def test_emulated_bfloat16_is_warned_about(monkeypatch):
    monkeypatch.setattr("cvkit.training.state.probe_bfloat16", lambda device: precision.Bfloat16(False, float("nan")))
    net = network()
    with pytest.warns(UserWarning, match="emulates bfloat16"):
        run_of(net, torch.optim.SGD(net.parameters(), lr=0.1), precision="bfloat16")


def test_divergence_errors_pickle():
    error = training.DivergenceError(3, "loss", "step 3: bad")
    copied = pickle.loads(pickle.dumps(error))
    assert (copied.step, copied.where, str(copied)) == (3, "loss", "step 3: bad")
