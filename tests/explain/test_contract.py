"""The contract: every method, through all that can surprise it, leaves no trace and gives the same maps."""

from __future__ import annotations

import contextlib
import gc
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvkit.explain import (
    ISCAM,
    METHODS,
    SSCAM,
    IntegratedGradients,
    SmoothGrad,
    SmoothGradCAMPlusPlus,
    explain,
)
from reference.explain_models import (
    SIZES,
    MLPHead,
    Net,
    OwnSize,
    Reused,
    TupleLayer,
    differences,
    images,
    seeded,
    state,
)

NAMES = list(METHODS)
LAYERED = [name for name in NAMES if METHODS[name].traits.layered]
# Methods of many passes, with fewer of them.
FEWER = {
    "sscam": SSCAM(samples=2, sigma=0.5),
    "iscam": ISCAM(samples=2),
    "smoothgradcam++": SmoothGradCAMPlusPlus(samples=3),
    "smoothgrad": SmoothGrad(samples=3),
    "vargrad": SmoothGrad(samples=3, kind="var"),
    "squaregrad": SmoothGrad(samples=3, kind="square"),
    "integratedgradients": IntegratedGradients(steps=4),
}
FAMILIES = {"gradcam", "refinecam", "ablationcam", "scorecam", "guidedgradcam", "integratedgradients"}
every = pytest.mark.parametrize("method", NAMES)
every_layered = pytest.mark.parametrize("method", LAYERED)


def net(rank: int = 2, **options) -> nn.Module:
    return seeded(Net(rank, **options))


def where(method: str) -> dict:
    """Options that name a layer, for methods that take one."""
    if not METHODS[method].traits.layered:
        return {}
    return {"layer": ["norm", "relu2"] if METHODS[method].traits.layer_count > 1 else "relu2"}


def run(method: str, model: nn.Module, x: torch.Tensor, **options):
    """Explain with few samples, for methods that draw them."""
    return explain(model, x, **{"method": FEWER.get(method, method), "target": 1, **where(method), **options})


def assert_same(a, b, tolerance: float = 1e-5) -> None:
    raws = [r if isinstance(r, tuple) else (r,) for r in (a.raw, b.raw)]
    for one, other in zip(*raws, strict=True):
        scale = other.abs().max().item() or 1.0
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * scale)


def assert_sound(result, rows: int, size: tuple[int, ...]) -> None:
    assert result.maps.shape == (rows, *size)
    assert result.maps.dtype == torch.float32
    assert torch.isfinite(result.maps).all()
    assert result.maps.min() >= 0
    assert result.maps.max() <= 1
    assert result.degenerate.shape == (rows,)
    assert result.degenerate.dtype == torch.bool
    assert not result.maps.requires_grad
    shown = ~result.degenerate
    torch.testing.assert_close(result.maps.flatten(1).amax(1)[shown], torch.ones(int(shown.sum())), rtol=0, atol=1e-6)


# ---------------------------------------------------------------- nothing is left behind


@every
def test_nothing_is_left_on_the_model(method):
    model, x = net(), images()
    model.train()
    model.norm.eval()
    model.conv1.weight.requires_grad_(False)
    model.conv2.weight.grad = torch.ones_like(model.conv2.weight)
    model.relu1.register_forward_hook(lambda *a: None)
    original = x.clone()
    before = state(model)
    result = run(method, model, x)
    assert differences(before, state(model)) == []
    assert torch.equal(x, original)
    assert x.grad is None
    assert not x.requires_grad
    assert_sound(result, 3, SIZES[2])


@every
def test_training_statistics_and_random_states_are_restored_when_run_as_is(method):
    model, x = net(), images()
    model.train()
    before = state(model)
    with contextlib.suppress(ValueError) if method == "cam" else contextlib.nullcontext():  # dropout is not affine
        run(method, model, x, mode="as-is")
    assert differences(before, state(model)) == []


class BrokenError(RuntimeError):
    pass


@every
@pytest.mark.parametrize("place", ["forward", "after", "hook", "target", "select"])
@pytest.mark.fault("frgfm/torch-cam#390")
def test_an_exception_at_any_stage_leaves_nothing(method, place):
    model, x = net(), images()
    model.train()
    model.norm.eval()

    def fail(*args):
        raise BrokenError(place)

    options = {"target": 1}
    handle = None
    if place == "forward":
        handle = model.relu1.register_forward_pre_hook(fail)
    elif place == "after":
        handle = model.head.register_forward_pre_hook(fail)
    elif place == "hook":
        handle = model.relu2.register_forward_hook(fail)
    else:
        options = {"target": fail} if place == "target" else {"select": fail}
    before = state(model)
    with pytest.raises(BrokenError):
        run(method, model, x, **options)
    assert differences(before, state(model)) == []
    if handle is not None:
        handle.remove()
    assert_sound(run(method, model, x), 3, SIZES[2])


@every
def test_an_exception_in_a_later_pass_leaves_nothing(method):
    model, x = net(), images()
    model.train()
    passes = []

    def fail_later(*args):
        passes.append(1)
        if len(passes) > 1:
            raise BrokenError

    with contextlib.ExitStack() as stack:
        stack.callback(model.head.register_forward_pre_hook(fail_later).remove)
        before = state(model)
        with contextlib.suppress(BrokenError):
            run(method, model, x)
        assert differences(before, state(model)) == []


@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt])
def test_an_exception_in_a_method_of_ones_own_leaves_nothing(error):
    model, x = net(), images()
    model.train()

    def fail(A, g):
        raise error

    before = state(model)
    with pytest.raises(error):
        explain(model, x, method=fail, layer="relu2")
    assert differences(before, state(model)) == []


def live_tensors() -> int:
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@every
@pytest.mark.fault("jacobgil/pytorch-grad-cam#132")
@pytest.mark.fault("jacobgil/pytorch-grad-cam#575")
def test_no_tensor_outlives_the_call_without_the_help_of_the_collector(method):
    model, x = net(), images(rows=2)
    run(method, model, x)
    gc.collect()
    gc.freeze()  # what is there is not looked at again
    gc.disable()
    try:
        before = live_tensors()
        for _ in range(3):
            result = run(method, model, x)
            del result
        assert live_tensors() == before
    finally:
        gc.enable()
        gc.unfreeze()


@every
def test_a_result_holds_no_graph(method):
    result = run(method, net(), images())
    raws = result.raw if isinstance(result.raw, tuple) else (result.raw,)
    for tensor in (result.maps, *raws, result.logits, result.scores, result.attributions, result.delta):
        assert tensor is None or tensor.grad_fn is None


# ---------------------------------------------------------------- the same maps wherever it is called


@every
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.fault("jacobgil/pytorch-grad-cam#80")
@pytest.mark.fault("frgfm/torch-cam#26")
def test_grad_modes_of_the_caller_change_nothing(method, mode):
    model, x = net(), images()
    expected = run(method, model, x)
    with mode():
        before = state(model)
        result = run(method, model, x)
        again = run(method, model, x.clone())  # an inference tensor under inference mode
        assert differences(before, state(model)) == []
    assert_same(result, expected, 0)
    assert_same(again, expected, 0)


@every
@pytest.mark.fault("facebookresearch/TorchRay#11")
@pytest.mark.fault("Project-MONAI/MONAI#1734")
def test_a_model_that_is_being_trained_is_explained_as_it_will_be_used(method):
    model, x = net(), images()
    expected = run(method, model, x)
    model.train()
    assert_same(run(method, model, x), expected, 0)
    assert model.training


@every
def test_frozen_parameters_change_nothing(method):
    model, x = net(), images()
    expected = run(method, model, x)
    model.requires_grad_(False)
    before = state(model)
    assert_same(run(method, model, x), expected, 0)
    assert differences(before, state(model)) == []


@every
def test_a_model_built_under_inference_mode_works(method):
    expected = run(method, net(), images())
    with torch.inference_mode():
        model = net()
    result = run(method, model, images())
    assert_same(result, expected, 0)


@every
@pytest.mark.fault("jacobgil/pytorch-grad-cam#96")
@pytest.mark.fault("jacobgil/pytorch-grad-cam#442")
def test_autocast_and_half_precision_give_float32_maps_near_the_full_ones(method):
    model, x = net(), images()
    expected = run(method, model, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = state(model)
        under = run(method, model, x)
        assert differences(before, state(model)) == []
    asked = run(method, model, x, precision="bf16")
    half = run(method, net().bfloat16(), x.bfloat16())
    for result in (under, asked, half):
        assert_sound(result, 3, SIZES[2])
        raws = result.raw if isinstance(result.raw, tuple) else (result.raw,)
        assert all(raw.dtype == torch.float32 for raw in raws)
    assert_same(under, asked, 0)
    if method not in {"eigencam", "fem"}:
        assert (under.maps - expected.maps).abs().mean() < 0.2


def compiled_forms(model: nn.Module) -> dict[str, nn.Module]:
    whole = torch.compile(net(), backend="eager")
    method = net()
    method.compile(backend="eager")
    part = net()
    part.conv2 = torch.compile(part.conv2, backend="eager")
    part.relu2 = torch.compile(part.relu2, backend="eager")
    return {"wrapper": whole, "method": method, "submodule": part}


@pytest.mark.parametrize(
    "method", [name if name in FAMILIES else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
@pytest.mark.fault("pytorch/pytorch#117758")
@pytest.mark.parametrize("form", ["wrapper", "method", "submodule"])
def test_compiled_models_are_explained(method, form):
    model, x = compiled_forms(net())[form], images()
    with torch.no_grad():
        model(x)  # compiled before any hook
    expected = run(method, net(), x)
    before = state(model)
    assert_same(run(method, model, x), expected, 1e-6)
    assert differences(before, state(model)) == []
    torch._dynamo.reset()


@every
@pytest.mark.fault("jacobgil/pytorch-grad-cam#340")
@pytest.mark.fault("kazuto1011/grad-cam-pytorch#13")
def test_data_parallel_wrappers_are_looked_through(method):
    x = images()
    assert_same(run(method, nn.DataParallel(net()), x), run(method, net(), x), 0)


@every
@pytest.mark.fault("meta-pytorch/captum#156")
@pytest.mark.fault("jacobgil/pytorch-grad-cam#147")
@pytest.mark.fault("frgfm/torch-cam#72")
def test_in_place_relu_after_the_layer_changes_nothing(method):
    x = images()
    options = {}
    if method == "cam":  # whose layer is the pooled one, which the dropout after it must not write into
        options = {"layer": "relu2"}
    elif METHODS[method].traits.layered:
        options = {"layer": ["conv1", "norm"] if METHODS[method].traits.layer_count > 1 else "norm"}
    models = [net(inplace=inplace) for inplace in (False, True)]
    for model in models:
        model.dropout.inplace = model.relu1.inplace
    expected = run(method, models[0], x, **options)
    assert_same(run(method, models[1], x, **options), expected, 0)


@every
def test_channels_last_gives_the_same_maps(method):
    x = images()
    model = net().to(memory_format=torch.channels_last)
    result = run(method, model, x.to(memory_format=torch.channels_last))
    assert_same(result, run(method, net(), x), 2e-4)


@every
@pytest.mark.fault("jacobgil/pytorch-grad-cam#351")
@pytest.mark.fault("jacobgil/pytorch-grad-cam#452")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_signals_pictures_and_volumes(method, rank):
    model, x = net(rank), images(rank)
    before = state(model)
    result = run(method, model, x)
    assert_sound(result, 3, SIZES[rank])
    assert differences(before, state(model)) == []


@every
@pytest.mark.parametrize("size", [(1, 9), (9, 1), (3, 4)])
def test_thin_pictures(method, size):
    assert_sound(run(method, net(), images(size=size)), 3, size)


@every
def test_batch_equals_loop_and_does_not_depend_on_the_chunk(method):
    model, x = net(), images(rows=5)
    targets = torch.tensor([0, 2, 1, 1, 0])
    whole = run(method, model, x, target=targets)
    for chunk in (1, 2, 3, 64):
        assert_same(run(method, model, x, target=targets, chunk=chunk), whole, 1e-4)
    generator = torch.Generator().manual_seed(3)
    batch = run(method, model, x, target=targets, generator=generator)
    generator = torch.Generator().manual_seed(3)
    for i in range(5):
        single = run(method, model, x[i : i + 1], target=targets[i : i + 1], generator=generator)
        raw, one = batch.raw, single.raw
        for a, b in zip(*((r if isinstance(r, tuple) else (r,)) for r in (raw, one)), strict=True):
            torch.testing.assert_close(b[0], a[i], rtol=0, atol=1e-4 * max(a[i].abs().max().item(), 1e-6))


@every
def test_permuting_the_batch_permutes_the_maps(method):
    if METHODS[method].traits.random:
        pytest.skip("noise goes with the place in the batch")
    model, x = net().double(), images(rows=4).double()
    order = torch.tensor([2, 0, 3, 1])
    a, b = run(method, model, x), run(method, model, x[order])
    raws = [r if isinstance(r, tuple) else (r,) for r in (a.raw, b.raw)]
    for one, other in zip(*raws, strict=True):
        torch.testing.assert_close(other, one[order], rtol=0, atol=1e-10 * (one.abs().max().item() or 1.0))


@every
def test_an_empty_batch_gives_empty_maps(method):
    result = run(method, net(), images(rows=0))
    assert result.maps.shape == (0, *SIZES[2])
    assert result.degenerate.shape == (0,)


@every
def test_the_same_seed_gives_the_same_bytes_and_only_random_methods_advance_it(method):
    model, x = net(), images()
    generator = torch.Generator().manual_seed(5)
    start = generator.get_state()
    first = run(method, model, x, generator=generator)
    assert torch.equal(start, generator.get_state()) != METHODS[method].traits.random
    second = run(method, model, x, generator=torch.Generator().manual_seed(5))
    assert torch.equal(first.maps, second.maps)
    if METHODS[method].traits.random:
        options = {"layer": "body.1"} if METHODS[method].traits.layered else {}
        curved = seeded(MLPHead(), 2)
        first, other = (
            explain(curved, x, method=FEWER[method], target=1, generator=generator, **options) for _ in range(2)
        )
        assert not torch.equal(first.maps, other.maps)


@every
@pytest.mark.fault("jacobgil/pytorch-grad-cam#481")
@pytest.mark.fault("jacobgil/pytorch-grad-cam#216")
def test_outputs_of_every_form(method):
    x = images()
    expected = run(method, net(), x)
    for head in ("tuple", "list", "dict", "namespace", "dataclass"):
        assert_same(run(method, net(head=head), x), expected, 1e-6)


@every
def test_threads_on_one_model_wait_for_each_other(method):
    model = net()
    model.train()
    inputs = [images(seed=seed) for seed in range(3)]
    expected = [run(method, model, x) for x in inputs]
    results: list = [None] * 3
    before = state(model)

    def work(i):
        results[i] = run(method, model, inputs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert differences(before, state(model)) == []
    for result, wanted in zip(results, expected, strict=True):
        assert_same(result, wanted, 1e-6)


@every
def test_nan_in_a_sample_stays_in_its_sample(method):
    x = images()
    x[1, 0, 2, 3] = float("nan")
    result = run(method, net(), x)
    clean = run(method, net(), images())
    assert torch.isfinite(result.maps).all()
    assert result.degenerate[1]
    assert not result.maps[1].any()
    assert torch.equal(result.degenerate[[0, 2]], clean.degenerate[[0, 2]])
    torch.testing.assert_close(result.maps[[0, 2]], clean.maps[[0, 2]], rtol=0, atol=1e-4)


@every
def test_custom_targets_and_forwards(method):
    model, x = net(), images()
    expected = run(method, model, x)
    if method != "finercam":  # which compares classes
        by_function = run(method, model, x, target=lambda output: output[:, 1])
        if method not in {"scorecam-class", "shapleycam"}:  # which look at the probability of a class
            assert_same(by_function, expected, 1e-4)
        assert by_function.target is None
    tree = {"pixels": x, "scale": torch.ones(3, 1, 1, 1)}
    by_forward = run(method, model, tree, forward=lambda m, t: m(t["pixels"] * t["scale"]))
    assert_same(by_forward, expected, 1e-5)


# ---------------------------------------------------------------- layers


@every_layered
@pytest.mark.fault("meta-pytorch/captum#156")
def test_reused_modules_ask_which_call(method):
    if METHODS[method].traits.layer_count > 1 or method == "cam":
        pytest.skip("takes several layers, or the pooled one alone")
    model, x = seeded(Reused()), images()
    before = state(model)
    with pytest.raises(ValueError, match=r"called 2 times \(0: \(3, 4, 11, 14\); 1: \(3, 4, 6, 7\)\)"):
        explain(model, x, method=method, layer="block")
    first, last = (explain(model, x, method=method, layer="block", occurrence=i) for i in (0, -1))
    assert first.raw.shape[1:] == (11, 14)
    assert last.raw.shape[1:] == ((11, 14) if method == "guidedgradcam" else (6, 7))  # the former has the input's size
    assert differences(before, state(model)) == []


@every_layered
def test_layers_that_return_tuples(method):
    if METHODS[method].traits.layer_count > 1 or method == "cam":
        pytest.skip("not for this model")
    model, x = seeded(TupleLayer()), images()
    before = state(model)
    result = explain(model, x, method=method, layer="part")
    assert_same(result, explain(model, x, method=method, layer="part.conv"), 1e-6)
    assert differences(before, state(model)) == []


@every_layered
def test_the_found_layer_is_the_last_with_a_gradient(method):
    model, x = net(), images()
    result = explain(model, x, method=method, target=1)
    assert result.layer[-1] == "relu2"
    assert_sound(result, 3, SIZES[2])


@every
def test_a_head_of_some_depth(method):
    if method == "cam":
        pytest.skip("needs pooling and one linear layer")
    model, x = seeded(MLPHead(), 2), images()
    options = {}
    if METHODS[method].traits.layered:
        options["layer"] = ["body.1", "body.3"] if METHODS[method].traits.layer_count > 1 else "body.3"
    assert_sound(explain(model, x, method=method, **options), 3, SIZES[2])


# ---------------------------------------------------------------- altered activations, mapped

MAPPED = [("ablationcam", False), ("cam", False), ("ablationcam", True)]


@pytest.mark.parametrize(("method", "branches"), MAPPED)
def test_heads_that_read_the_batchs_size_keep_the_contract(method, branches):
    model, x = seeded(OwnSize(branches)), images()
    options = {"method": method, "layer": "body.3", "target": torch.tensor([0, 2, 1])}
    expected = explain(model, x, **options)
    model.train().requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before = state(model)
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            assert_same(explain(model, x.clone(), **options), expected, 1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(explain(model, x, **options), expected, 0.1)
    assert_same(explain(model, x, chunk=2, **options), expected, 1e-5)
    assert differences(before, state(model)) == []
    with torch.inference_mode():
        built = seeded(OwnSize(branches))
    assert_same(explain(built, x, **options), expected, 1e-6)
    assert_same(explain(torch.compile(seeded(OwnSize(branches)), backend="eager"), x, **options), expected, 1e-6)
    torch._dynamo.reset()


@pytest.mark.parametrize(("method", "branches"), MAPPED)
def test_mapping_leaves_nothing_on_an_error_and_no_tensor(method, branches):
    model, x = seeded(OwnSize(branches)), images(rows=2)
    model.train()
    passes = []

    def fail_later(*args):
        passes.append(1)
        if len(passes) > 2:
            raise BrokenError

    handle = model.head.register_forward_pre_hook(fail_later)
    before = state(model)
    with contextlib.suppress(BrokenError):
        explain(model, x, method=method, layer="body.3", target=1)
    assert differences(before, state(model)) == []
    handle.remove()
    explain(model, x, method=method, layer="body.3", target=1)
    gc.collect()
    gc.disable()
    try:
        count = live_tensors()
        explain(model, x, method=method, layer="body.3", target=1)
        assert live_tensors() == count
    finally:
        gc.enable()


# ---------------------------------------------------------------- as a loss

DIFFERENTIABLE = [name for name in NAMES if METHODS[name].traits.differentiable]


@pytest.mark.parametrize("method", DIFFERENTIABLE)
def test_differentiable_maps_carry_a_graph_to_parameters_and_inputs(method):
    model, x = net(), images().requires_grad_()
    plain = run(method, model, x)
    before = state(model)
    result = run(method, model, x, differentiable=True)
    assert differences(before, state(model)) == []
    assert_same(result, plain, 1e-5)
    raws = result.raw if isinstance(result.raw, tuple) else (result.raw,)
    loss = sum(raw.square().sum() for raw in raws) + result.maps.sum()
    grads = torch.autograd.grad(loss, [x, model.conv1.weight], allow_unused=True)
    assert any(grad is not None and grad.abs().max() > 0 for grad in grads)
    assert all(grad is None or torch.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("method", [name for name in NAMES if not METHODS[name].traits.differentiable])
def test_methods_without_a_graph_refuse_to_be_differentiable(method):
    with pytest.raises(ValueError, match="`differentiable` is not for"):
        run(method, net(), images(), differentiable=True)


def test_the_callers_autocast_cache_is_not_poisoned():
    model, x = net(), images()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run("gradcam", model, x)
        F.cross_entropy(model(x).float(), torch.tensor([0, 1, 2])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
