"""The small parts: trees, tokens, maps, layer names, the listing, locks and states."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cvkit.explain import LayerInfo, Tokens, explain, layers, overlay
from cvkit.explain._layers import named_layers, resolve_layers, watched
from cvkit.explain._maps import fuse_maps, normalize_maps, resize_maps
from cvkit.explain._state import _LOCKS, preserved
from cvkit.explain._tree import first_tensor, map_tensors, replace_tensor, take_rows, tensors
from cvkit.explain.tokens import infer_tokens
from reference import explain_slow as slow
from reference.explain_models import Net, Reused, differences, images, seeded, state

# ---------------------------------------------------------------- trees

Point = namedtuple("Point", "x y")  # noqa: PYI024


@dataclass(frozen=True)
class Frozen:
    x: torch.Tensor
    name: str


def trees():
    a, b = torch.arange(4.0), torch.arange(8.0).view(4, 2)
    return [
        a, (a, b), [a, {"k": b}], Point(a, b), OrderedDict(p=a, q=(b, 3)), Frozen(a, "n"),
        SimpleNamespace(logits=a, n=None), {"deep": [Point(1, (a,))]},
    ]  # fmt: skip


@pytest.mark.parametrize("i", range(8))
def test_trees_keep_their_kind_and_what_does_not_change(i):
    tree = trees()[i]
    doubled = map_tensors(lambda t: t * 2, tree)
    assert type(doubled) is type(tree)
    for before, after in zip(tensors(tree), tensors(doubled), strict=True):
        assert torch.equal(before * 2, after)
    assert map_tensors(lambda t: t, tree) is tree
    first = first_tensor(tree)
    other = torch.zeros(4)
    assert first_tensor(replace_tensor(tree, first, other)) is other
    assert first_tensor(tree) is first
    for t in tensors(take_rows(tree, 1, 3, 4)):
        assert t.shape[0] == 2


def test_lists_of_rows_are_taken_apart_and_tuples_of_batches_are_not():
    rows = [{"boxes": torch.zeros(i, 4)} for i in range(3)]
    assert take_rows(rows, 1, 3, 3) == rows[1:]
    batches = [torch.zeros(2, 5), torch.ones(2)]
    taken = take_rows(batches, 0, 1, 2)
    assert [t.shape for t in taken] == [(1, 5), (1,)]
    assert take_rows(["a", "b"], 0, 1, 2) == ["a"]
    assert take_rows((3, "text", None), 0, 1, 3) == (3, "text", None)
    assert take_rows(torch.tensor(3.0), 0, 1, 1) == 3.0
    assert first_tensor({"m": nn.Linear(2, 2), "t": int}) is None


# ---------------------------------------------------------------- tokens


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 5), st.integers(1, 3))
def test_tokens_go_to_the_grid_and_back(height, width, prefix, copies):
    tokens = Tokens(grid=(height, width), prefix=prefix)
    output = torch.rand(2, height * width + prefix, 3)
    maps = tokens.to_grid(output)
    for i in range(height):
        for j in range(width):
            assert torch.equal(maps[:, :, i, j], output[:, prefix + i * width + j])
    back = tokens.from_grid(maps.repeat(copies, 1, 1, 1), output)
    assert torch.equal(back, output.repeat(copies, 1, 1))


@pytest.mark.fault("jacobgil/pytorch-grad-cam#509")
@pytest.mark.parametrize(
    ("count", "size", "grid", "prefix"),
    [
        (197, (224, 224), (14, 14), 1), (196, (224, 224), (14, 14), 0), (201, (224, 224), (14, 14), 5),
        (257, (256, 256), (16, 16), 1), (16, (12, 20), (3, 5), 1), (301, (240, 320), (15, 20), 1),
        (8, (6, 4, 2), (3, 2, 1), 2),
    ],
)  # fmt: skip
def test_grids_follow_from_the_patch_never_from_a_root(count, size, grid, prefix):
    assert infer_tokens(count, size) == Tokens(grid, prefix)


def test_no_grid_is_said():
    assert infer_tokens(100, (224, 224)) is None
    with pytest.raises(ValueError, match=r"have shape \(N, 7, C\); got \(1, 8, 3\)"):
        Tokens(grid=(2, 3), prefix=1).to_grid(torch.zeros(1, 8, 3))
    with pytest.raises(ValueError, match="`grid` is needed"):
        Tokens()
    with pytest.raises(ValueError, match="`grid` and `prefix` are for token sequences"):
        Tokens(grid=(2, 2), channels_last=True)
    with pytest.raises(ValueError, match="channels-last activations must have shape"):
        Tokens(channels_last=True).to_grid(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"`grid\[1\]` must be at least 1"):
        Tokens(grid=(2, 0))


# ---------------------------------------------------------------- maps


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), min_size=1, max_size=3), st.integers(0, 2**31 - 1))
def test_resizing_equals_interpolation_written_out(sides, seed):
    old, new = zip(*((a, max(a, b)) for a, b in sides), strict=True)
    maps = torch.rand((2, *old), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = np.stack([slow.resize(m, new) for m in maps.numpy()])
    resized = resize_maps(maps, new).numpy()
    np.testing.assert_allclose(resized, expected, atol=1e-12)
    assert resized.max() <= maps.max() + 1e-12
    assert resized.min() >= maps.min() - 1e-12


def test_shrinking_averages_and_four_axes_are_refused():
    fine = torch.zeros(1, 8, 8)
    fine[0, ::2] = 1.0
    assert resize_maps(fine, (2, 2)).sub(0.5).abs().max() < 0.1
    with pytest.raises(ValueError, match="maps of 4 dimensions cannot be resized"):
        resize_maps(torch.zeros(1, 2, 2, 2, 2), (3, 3, 3, 3))
    assert resize_maps(torch.zeros(1, 2, 2, 2, 2), (2, 2, 2, 2)).shape == (1, 2, 2, 2, 2)


@pytest.mark.fault("jacobgil/pytorch-grad-cam#214")
def test_normalisations_by_hand():
    raw = torch.tensor([[-2.0, 0.0, 1.0, 4.0], [3.0, 3.0, 3.0, 3.0], [-1.0, -2.0, -1.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
    expected = {
        "max": ([[0, 0, 0.25, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]], [False, False, True, True]),
        "minmax": ([[0, 1 / 3, 0.5, 1], [0, 0, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0]], [False, True, False, True]),
        "abs": ([[0.5, 0, 0.25, 1], [1, 1, 1, 1], [0.5, 1, 0.5, 0.5], [0, 0, 0, 0]], [False, False, False, True]),
        "none": (raw.tolist(), [False] * 4),
    }
    for kind, (values, nothing) in expected.items():
        maps, degenerate = normalize_maps(raw, (4,), kind)
        torch.testing.assert_close(maps, torch.tensor(values, dtype=torch.float32))
        assert degenerate.tolist() == nothing


def test_percentiles_are_not_ruled_by_one_outlier():
    raw = torch.linspace(0, 1, 1000)[None].clone()
    raw[0, 500] = 1e6
    maps, _ = normalize_maps(raw, (1000,), "percentile")
    assert maps[0, 900] > 0.85
    spike = torch.zeros(1, 1000)
    spike[0, 3] = 2.0
    assert normalize_maps(spike, (1000,), "percentile")[0].amax() == 1


def test_rounding_is_nothing_and_small_maps_are_something():
    raw = torch.tensor([[1e-9, -1.0], [1e-30, 2e-30], [float("inf"), 1.0]])
    maps, nothing = normalize_maps(raw, (2,), "max")
    assert nothing.tolist() == [True, False, True]
    assert maps.tolist() == [[0, 0], [0.5, 1.0], [0, 0]]


def test_one_map_is_not_fused():
    maps = torch.rand(2, 3)
    assert fuse_maps([maps], "product") is maps
    assert not fuse_maps([maps, torch.zeros(2, 3)], "product").any()


# ---------------------------------------------------------------- layers


def test_layers_are_listed_with_shapes_and_fitness():
    model, x = seeded(Net()), images(rows=1)
    model.train()
    before = state(model)
    listed = layers(model, x)
    assert differences(before, state(model)) == []
    assert all(isinstance(info, LayerInfo) for info in listed)
    names = [info.name for info in listed]
    assert names == ["conv1", "relu1", "conv2", "norm", "relu2", "dropout", "head"]
    by_name = {info.name: info for info in listed}
    assert by_name["relu2"].fits
    assert by_name["relu2"].grid == (6, 7)
    assert by_name["dropout"].grid == ()
    assert not by_name["head"].fits
    assert [info.name for info in listed if info.fits][-1] == explain(model, x).layer[0]


def test_reused_layers_are_listed_call_by_call_and_functions_serve():
    model = seeded(Reused())
    listed = [info for info in layers(model, images(), target=lambda out: out[:, 1]) if info.name == "block"]
    assert [(info.occurrence, info.grid) for info in listed] == [(0, (11, 14)), (1, (6, 7))]

    class Segment(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, tree):
            return self.conv(tree["x"])

    listed = layers(seeded(Segment()), {"x": images()}, target=lambda out: out[:, 0].flatten(1).sum(1), tokens=None)
    assert [(info.name, info.fits, info.gradient) for info in listed] == [("conv", False, True)]
    with pytest.raises(TypeError, match="`model` must be"):
        layers(3, images())


def test_names_of_shared_and_wrapped_modules():
    shared = nn.ReLU()
    model = nn.Sequential(OrderedDict(a=nn.Conv2d(3, 3, 1), b=shared, c=shared))
    assert list(named_layers(model)) == ["a", "b"]
    assert list(resolve_layers(model, "c")) == ["b"]
    compiled = torch.compile(nn.Conv2d(3, 3, 1), backend="eager")
    model.d = compiled
    assert list(named_layers(model)) == ["a", "b", "d"]
    assert resolve_layers(model, compiled)["d"] is compiled._orig_mod
    assert resolve_layers(model, "_orig_mod.d")["d"] is compiled._orig_mod


def test_other_threads_forwards_are_not_watched():
    model, x = seeded(Net()), images()
    seen = []
    with watched({"conv2": model.conv2}, lambda *a: seen.append(a[1])), torch.no_grad():
        expected = model(x)
        outputs = []
        thread = threading.Thread(target=lambda: outputs.append(model(x).detach()))
        thread.start()
        thread.join()
    assert seen == [0]
    torch.testing.assert_close(outputs[0], expected)


def test_modules_without_floating_outputs_are_passed_over():
    class Sizes(nn.Module):
        def forward(self, x):
            return tuple(x.shape)

    sizes = Sizes()
    with watched({"s": sizes}, lambda *a: pytest.fail("no tensor came")):
        sizes(torch.zeros(2))


# ---------------------------------------------------------------- state


def test_locks_go_with_their_models():
    model = seeded(Net())
    explain(model, images())
    reference = weakref.ref(model)
    count = len(_LOCKS)
    del model
    gc.collect()
    assert reference() is None
    assert len(_LOCKS) < count


def test_a_call_inside_a_call_does_not_wait_for_itself():
    model, x = seeded(Net()), images()

    def target(output):
        explain(model, x, target=0)
        return output[:, 1]

    before = state(model)
    result = explain(model, x, target=target)
    assert differences(before, state(model)) == []
    torch.testing.assert_close(result.raw, explain(model, x, target=1).raw)


def test_changed_and_replaced_buffers_come_back_with_their_identity():
    model = nn.Module()
    model.register_buffer("a", torch.tensor([1.0, float("nan")]))
    model.register_buffer("b", torch.tensor([3]))
    model.register_buffer("none", None)
    model.register_buffer("meta", torch.zeros(2, device="meta"))
    a, b = model.a, model.b
    version = b._version
    with preserved(model, torch.device("cpu")):
        model.a.add_(1)
        model.a = torch.zeros(5)
        model.b = torch.tensor([4])
    assert model.a is a
    assert model.a.tolist()[0] == 1.0
    assert model.a[1].isnan()
    assert model.b is b
    assert b._version == version  # what has not changed was not written


def test_flags_are_put_back_module_by_module_and_eval_is_not_called():
    class Loud(Net):
        def train(self, mode=True):
            raise RuntimeError("called")

    model = Loud()
    model.norm.training = False
    flags = [m.training for m in model.modules()]
    with preserved(model, torch.device("cpu")):
        assert not any(m.training for m in model.modules())
    assert [m.training for m in model.modules()] == flags


def test_global_random_states_are_put_back():
    class Noisy(Net):
        def forward(self, x):
            np.random.rand()  # noqa: NPY002
            return super().forward(x + 0 * torch.rand(1))

    model = seeded(Noisy())
    before = state(model)
    explain(model, images())
    assert differences(before, state(model)) == []


def test_overlay_is_the_same_object():
    from cvkit import imgops

    assert overlay is imgops.overlay
