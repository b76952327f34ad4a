"""The door: defaults, sizes, layers found from the forward, what is refused."""

from __future__ import annotations

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvkit.explain import METHODS, Explanation, GradCAM, Tokens, cam, explain, explain_many
from cvkit.explain._method import FunctionMethod
from reference.explain_models import CONV, SIZES, MLPHead, Net, Reused, differences, images, seeded, state


def net(**options):
    return seeded(Net(**options))


def test_everything_has_a_default():
    result = explain(net(), images())
    assert isinstance(result, Explanation)
    assert result.layer == ("relu2",)
    assert torch.equal(result.target, result.logits.argmax(1))
    assert torch.equal(result.scores, result.logits.amax(1))
    assert "maps=(3, 11, 14)" in repr(result)


def test_raw_maps_are_those_of_the_function():
    model, x = net(), images()
    A = model.features(x).detach().requires_grad_()
    g = torch.autograd.grad(model.head(A.flatten(2).mean(2))[:, 1].sum(), A)[0]
    result = explain(model, x, target=1)
    torch.testing.assert_close(result.raw, cam.gradcam(A, g).detach())
    shown = F.interpolate(result.raw.relu()[:, None], (11, 14), mode="bilinear")[:, 0]
    torch.testing.assert_close(result.maps, shown / shown.flatten(1).amax(1).clamp(min=1e-12).view(-1, 1, 1))


def test_users_functions_are_methods():
    model, x = net(), images()
    own = explain(model, x, method=lambda A, g: (g.mean((2, 3), keepdim=True) * A).sum(1), target=1)
    torch.testing.assert_close(own.raw, explain(model, x, target=1).raw)
    with pytest.raises(ValueError, match=r"`method` must return maps of shape \(3, 6, 7\); got \(3, 6, 6, 7\)"):
        explain(model, x, method=lambda A, g: A * g)
    with pytest.raises(TypeError, match=r"`method` must return a tensor"):
        explain(model, x, method=lambda A, g: 3)
    assert isinstance(FunctionMethod(cam.layercam), FunctionMethod)


@pytest.mark.parametrize("size", ["input", "layer", (5, 9), (30, 40)])
def test_sizes(size):
    result = explain(net(), images(), size=size, target=1)
    expected = {"input": (11, 14), "layer": (6, 7)}.get(size, size) if isinstance(size, str) else size
    assert result.maps.shape == (3, *expected)
    assert result.maps.flatten(1).amax(1)[~result.degenerate].eq(1).all()


@pytest.mark.parametrize("normalize", ["max", "minmax", "abs", "percentile"])
@pytest.mark.parametrize("method", ["gradcam", "saliency"])
def test_normalisations_reach_one(method, normalize):
    result = explain(net(), images(), method=method, normalize=normalize, target=1)
    assert result.maps.min() >= 0
    assert result.maps.flatten(1).amax(1)[~result.degenerate].eq(1).all()


@pytest.mark.fault("meta-pytorch/captum#179")
def test_none_keeps_the_sign():
    result = explain(net(), images(), normalize="none", size="layer", target=1)
    torch.testing.assert_close(result.maps, result.raw)


# ---------------------------------------------------------------- layers


class DenseEnd(nn.Module):
    """Ends as densely connected networks do: a norm, then a functional in-place ReLU."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm5 = nn.BatchNorm2d(5)
        self.classifier = nn.Linear(5, 3)

    def forward(self, x):
        y = F.relu(self.norm5(self.conv(x)), inplace=True)
        return self.classifier(y.mean((2, 3)))


@pytest.mark.fault("meta-pytorch/captum#156")
def test_a_found_layer_whose_output_is_overwritten_is_explained_as_it_was():
    model, x = seeded(DenseEnd(), 1), images()
    found = explain(model, x, target=1)
    assert found.layer == ("norm5",)
    A = model.norm5(model.conv(x)).detach().requires_grad_()
    g = torch.autograd.grad(model.classifier(F.relu(A).mean((2, 3)))[:, 1].sum(), A)[0]
    assert A.min() < 0
    torch.testing.assert_close(found.raw, cam.gradcam(A, g).detach())
    torch.testing.assert_close(explain(model, x, target=1, layer="norm5").raw, found.raw)


class Frozen(nn.Module):
    """A backbone that its own forward runs without a graph."""

    def __init__(self, inference=False):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
        self.head = nn.Linear(4, 3)
        self.mode = torch.inference_mode if inference else torch.no_grad

    def forward(self, x):
        with self.mode():
            y = self.backbone(x)
        if self.mode is torch.inference_mode:
            y = y.clone()
        return self.head(torch.relu(y).mean((2, 3)))


@pytest.mark.fault("jacobgil/pytorch-grad-cam#187")
def test_models_that_switch_grad_mode_themselves():
    model, x = seeded(Frozen()), images()
    twin = seeded(Frozen())
    before = state(model)
    twin.mode = torch.enable_grad
    for layer in (None, "backbone.0", "backbone.1", "backbone"):
        for method in ("gradcam", "shapleycam"):
            expected = explain(twin, x, layer=layer, target=1, method=method)
            found = explain(model, x, layer=layer, target=1, method=method)
            torch.testing.assert_close(found.raw, expected.raw)
    assert differences(before, state(model)) == []
    with pytest.raises(ValueError, match="switches inference mode on"):
        explain(seeded(Frozen(inference=True)), x, layer="backbone.0")


def test_a_layer_that_the_scores_do_not_depend_on_is_named():
    class Aside(Net):
        def __init__(self):
            super().__init__()
            self.aside = nn.Conv2d(3, 2, 3)

        def forward(self, x):
            self.aside(x)
            return super().forward(x)

    model, x = seeded(Aside()), images()
    before = state(model)
    with pytest.raises(ValueError, match="scores do not depend on layer 'aside'"):
        explain(model, x, layer="aside")
    assert differences(before, state(model)) == []
    assert explain(model, x, layer="relu2").maps.shape == (3, 11, 14)


def test_the_last_layer_with_a_gradient_is_found_even_if_others_come_after():
    class Reconstructing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.head = nn.Linear(4, 3)
            self.decoder = nn.Conv2d(4, 3, 3, padding=1)

        def forward(self, x):
            y = self.conv(x)
            return self.head(y.mean((2, 3))), self.decoder(y)

    assert explain(seeded(Reconstructing()), images()).layer == ("conv",)


def test_reused_modules_are_found_by_their_last_fitting_call():
    result = explain(seeded(Reused()), images())
    assert result.layer == ("block",)
    assert result.raw.shape == (3, 6, 7)


def test_no_fitting_layer_is_said():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 11 * 14, 3))
    with pytest.raises(ValueError, match="no layer with more than one spatial position"):
        explain(flat, images())

    class Detached(Net):
        def forward(self, x):
            return super().forward(x).detach()

    with pytest.raises(ValueError, match="do not depend on the model's layers through a graph"):
        explain(seeded(Detached()), images())
    with pytest.raises(ValueError, match="do not depend on layer 'conv1'"):
        explain(seeded(Detached()), images(), layer="conv1")


def test_a_layer_that_is_not_called_is_said():
    model = net()
    model.spare = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match="layer 'spare' was not called"):
        explain(model, images(), layer="spare")
    with pytest.raises(ValueError, match="occurrence"):
        explain(seeded(Reused()), images(), layer="block", occurrence=2)


def test_layers_by_name_module_pattern_and_list():
    model, x = net(), images()
    by_name = explain(model, x, layer="conv2", target=1)
    assert torch.equal(explain(model, x, layer=model.conv2, target=1).raw, by_name.raw)
    assert torch.equal(explain(model, x, layer=["conv2"], target=1).raw[0], by_name.raw)
    assert explain(model, x, layer="conv*", target=1).layer == ("conv1", "conv2")


def test_an_activation_that_is_no_map_is_refused_with_a_remedy():
    with pytest.raises(ValueError, match=r"say `tokens=Tokens"):
        explain(net(), images(), layer="head")


def test_parts_of_a_batch_with_different_last_layers_are_told_to_name_one():
    class Choosing(Net):
        def forward(self, x):
            y = self.features(x)
            return (
                self.head(y.flatten(2).mean(2))
                if x.mean() > 0.5
                else self.head(y.detach().flatten(2).mean(2) * 0) + self.conv1(x).mean((2, 3))[:, :3]
            )

    x = images(rows=2)
    x[0] = 1.0
    x[1] = 0.1
    with pytest.raises(ValueError, match="different last layers"):
        explain(seeded(Choosing()), x, chunk=1, target=1)


# ---------------------------------------------------------------- transformers


class Transformer(nn.Module):
    """Patches, prefix tokens, one block, a class from the first token or the mean."""

    def __init__(self, prefix=1):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.prefix = nn.Parameter(torch.zeros(1, prefix, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        y = self.patch(x).flatten(2).mT
        y = self.norm(self.block(torch.cat([self.prefix.expand(len(y), -1, -1), y], 1)))
        return self.head(y.mean(1))


@pytest.mark.fault("jacobgil/pytorch-grad-cam#76")
@pytest.mark.fault("jacobgil/pytorch-grad-cam#257")
@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("method", ["gradcam", "eigencam", "ablationcam", "scorecam"])
def test_token_grids_that_are_not_square_are_inferred(method, prefix):
    model, x = seeded(Transformer(prefix), 1), images(size=(12, 20))
    before = state(model)
    inferred = explain(model, x, method=method, layer="block", target=1)
    assert inferred.raw.shape == (3, 3, 5)
    said = explain(model, x, method=method, layer="block", target=1, tokens=Tokens(grid=(3, 5), prefix=prefix))
    assert torch.equal(inferred.raw, said.raw)
    assert differences(before, state(model)) == []
    assert explain(model, x, target=1).layer == ("norm",)


class ChannelsLast(nn.Module):
    """Blocks that speak (N, H, W, C)."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 3, 2)
        self.block = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.block(self.patch(x).movedim(1, -1)).relu().mean((1, 2)))


@pytest.mark.parametrize("method", ["gradcam", "ablationcam"])
def test_channels_last_layers(method):
    model, x = seeded(ChannelsLast(), 1), images()
    result = explain(model, x, method=method, layer="block", tokens=Tokens(channels_last=True), target=1)
    assert result.raw.shape == (3, 5, 6)
    with pytest.raises(ValueError, match="grid"):
        explain(model, x, layer="block", tokens=Tokens(grid=(5, 5)), target=1)


# ---------------------------------------------------------------- several targets, several inputs


@pytest.mark.parametrize(
    "method", ["gradcam", "shapleycam", "scorecam", "saliency", "fullgrad", "ablationcam", "finercam"]
)
@pytest.mark.parametrize("layer", [None, "relu2"])
def test_several_targets_equal_single_calls(method, layer):
    model, x = net(), images()
    layer = layer if METHODS[method].traits.layered else None
    many = explain_many(model, x, [0, 2, torch.tensor([1, 0, 2])], method=method, layer=layer)
    for target, result in zip([0, 2, torch.tensor([1, 0, 2])], many, strict=True):
        single = explain(model, x, method=method, layer=layer, target=target)
        torch.testing.assert_close(result.raw, single.raw)
        assert torch.equal(result.target, single.target)


def test_several_targets_take_one_forward():
    model, x = net(), images()
    calls = []
    model.head.register_forward_hook(lambda *a: calls.append(1))
    explain_many(model, x, [0, 1, 2], layer="relu2")
    explain_many(model, x, [0, 1, 2])
    assert len(calls) == 2
    with pytest.raises(ValueError, match="at least one target"):
        explain_many(model, x, [])
    with pytest.raises(TypeError, match="`targets` must be a sequence"):
        explain_many(model, x, 3)


def test_several_targets_in_parts():
    model, x = net(), images(rows=5)
    whole = explain_many(model, x, [0, [0, 1, 2, 1, 0]], layer="relu2")
    parts = explain_many(model, x, [0, [0, 1, 2, 1, 0]], layer="relu2", chunk=2)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a.raw, b.raw)
        assert torch.equal(a.target, b.target)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(6, 3)

    def forward(self, pixels, *, extra):
        return self.head(torch.cat([self.conv(pixels).relu().mean((2, 3)), extra], 1))


@pytest.mark.parametrize(
    "method", ["gradcam", "ablationcam", "scorecam", "integratedgradients", "smoothgrad", "groupcam"]
)
def test_several_and_keyword_inputs(method):
    model, x = seeded(TwoInputs(), 1).double(), images(rows=3).double()
    extra = torch.arange(6.0, dtype=torch.float64).view(3, 2)

    class Bound(nn.Module):
        def __init__(self, row):
            super().__init__()
            self.inner, self.row = model, row

        def forward(self, pixels):
            return self.inner(pixels, extra=self.row.expand(len(pixels), 2))

    inputs = {"pixels": x, "extra": extra, "name": "batch"}

    def forward(m, tree):
        return m(tree["pixels"], extra=tree["extra"])

    options = {"layer": "conv"} if METHODS[method].traits.layered else {}
    generator = torch.Generator().manual_seed(0)
    whole = explain(model, inputs, method=method, target=1, forward=forward, generator=generator, **options)
    for chunk in (1, 2):
        generator = torch.Generator().manual_seed(0)
        part = explain(
            model, inputs, method=method, target=1, forward=forward, chunk=chunk, generator=generator, **options
        )
        torch.testing.assert_close(part.raw, whole.raw, rtol=0, atol=1e-10 * whole.raw.abs().max().item())
    if not METHODS[method].traits.random:
        options = {"layer": "inner.conv"} if options else {}
        single = explain(Bound(extra[1:2]), x[1:2], method=method, target=1, **options)
        torch.testing.assert_close(single.raw[0], whole.raw[1], rtol=0, atol=1e-10 * whole.raw.abs().max().item())


# ---------------------------------------------------------------- the input itself


def test_a_model_that_writes_into_its_input_does_not_change_the_callers():
    class Writing(Net):
        def forward(self, x):
            return super().forward(x.sub_(0.5))

    x = images()
    kept = x.clone()
    for name in METHODS:
        if METHODS[name].traits.layer_count == 1 and name != "cam":
            explain(seeded(Writing()), x, method=name, target=1)
            assert torch.equal(x, kept), name


def test_views_and_slices_and_inputs_with_a_graph():
    model = net()
    base = torch.rand(3, 11, 28, 3, generator=torch.Generator().manual_seed(1))
    view = base.permute(0, 3, 1, 2)[..., ::2]
    torch.testing.assert_close(explain(model, view).maps, explain(model, view.contiguous()).maps)
    x = images().requires_grad_()
    assert not explain(model, x * 2).maps.requires_grad
    assert x.grad is None


def test_float64_stays_float64_until_the_maps():
    result = explain(seeded(Net(), dtype=torch.float64), images(dtype=torch.float64))
    assert (result.raw.dtype, result.maps.dtype) == (torch.float64, torch.float32)


def test_the_last_module_before_one_position_is_taken_for_every_rank():
    for rank in (1, 2, 3):
        model = nn.Sequential(
            CONV[rank](3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten()
        )
        assert explain(seeded(model), images(rank)).maps.shape == (3, *SIZES[rank])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "gradcm"}, ValueError, "`method` must be one of 'cam', 'gradcam'"),
        ({"method": 3}, TypeError, "`method` must be a name"),
        ({"method": GradCAM}, TypeError, r"got the class GradCAM: write GradCAM\(\)"),
        ({"layer": "relu3"}, ValueError, "`layer` 'relu3' is not a layer of the model; close: 'relu"),
        ({"layer": "stage*"}, ValueError, "matches no layer"),
        ({"layer": 3}, TypeError, "`layer` must be a name, a module or a sequence"),
        ({"layer": []}, ValueError, "at least one layer"),
        ({"layer": [3]}, TypeError, "`layer` must be a name"),
        ({"layer": nn.ReLU()}, ValueError, "`layer` ReLU is not a part of the model"),
        ({"normalize": "sum"}, ValueError, "`normalize` must be one of"),
        ({"fuse": "sum"}, ValueError, "`fuse` must be one of"),
        ({"mode": "train"}, ValueError, "`mode` must be one of"),
        ({"precision": "int8"}, ValueError, "`precision` must be one of"),
        ({"size": "large"}, TypeError, "`size` must be 'input', 'layer' or a sequence"),
        ({"size": (3, 4, 5)}, ValueError, "`size` must be 'input', 'layer' or 2 integers"),
        ({"size": (0, 5)}, ValueError, r"`size\[0\]` must be at least 1"),
        ({"size": "layer", "layer": ["conv1", "conv2"]}, ValueError, "needs layers of one size"),
        ({"chunk": 0}, ValueError, "`chunk` must be at least 1"),
        ({"tokens": (3, 4)}, TypeError, "`tokens` must be Tokens"),
        ({"occurrence": 1.5}, TypeError, "`occurrence` must be an integer"),
        ({"target": [1, 2], "chunk": 1}, ValueError, "`target` must have one class for each of the 3 samples"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_left(options, error, message):
    model = net()
    before = state(model)
    with pytest.raises(error, match=message):
        explain(model, images(), **options)
    assert differences(before, state(model)) == []


def test_wrong_models_and_inputs_are_named():
    with pytest.raises(TypeError, match=r"`model` must be a torch.nn.Module"):
        explain(lambda x: x, images())
    for inputs in (torch.zeros(3, 3), torch.zeros(3, 3, 4, 4, dtype=torch.int64), {"a": 1}, None):
        with pytest.raises(ValueError, match="`inputs` must hold a floating tensor"):
            explain(net(), inputs)


def test_explain_many_takes_what_explain_takes():
    one, many = (inspect.signature(function).parameters for function in (explain, explain_many))
    assert set(one) - set(many) == {"target"}
    assert all(one[name].default == many[name].default for name in set(one) & set(many))


def test_many_passes_through_channels_last_weights_give_the_same_map():
    model, x = seeded(MLPHead(), 3), images(rows=1, size=(64, 70))
    model.body[0] = nn.Conv2d(3, 40, 3, padding=1)
    model.body[2] = nn.Conv2d(40, 6, 3, padding=1)
    seeded(model, 3)
    before = state(model)
    fast = explain(model, x, method="scorecam", layer="body.1", target=1)
    assert differences(before, state(model)) == []
    assert model.body[0].weight.is_contiguous()
    slow = explain(model.double(), x.double(), method="scorecam", layer="body.1", target=1)
    torch.testing.assert_close(fast.raw, slow.raw.float(), rtol=0, atol=1e-5 * slow.raw.abs().max().item())
