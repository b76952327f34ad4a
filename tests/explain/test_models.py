"""Models as people bring them: own batch sizes in the forward, records, channels at the end, TorchScript, exports."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvkit.explain import (
    DetectedBox,
    FinerCAM,
    IntegratedGradients,
    Method,
    Region,
    SmoothGrad,
    Tokens,
    explain,
    layers,
)
from cvkit.explain._method import Traits
from cvkit.explain._setup import Attribution
from cvkit.explain.tokens import infer_channels_last, infer_tokens
from reference.explain_models import Net, images, seeded


class Backbone(nn.Module):
    """Two convolutions and a head, in float64."""

    def __init__(self, classes=4):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(6, 5, 3, padding=1)
        self.last = nn.ReLU()
        self.head = nn.Linear(5, classes)

    def maps(self, x):
        return self.last(self.second(self.relu(self.conv(x))))

    def forward(self, x):
        return self.head(self.maps(x).mean((2, 3)))


class CutsTheOutput(Backbone):
    def forward(self, x):
        return super().forward(x)[: x.shape[0]]


class LoopsOverSamples(Backbone):
    def forward(self, x):
        h = self.maps(x)
        return torch.stack([self.head(h[i].mean((1, 2))) for i in range(len(x))])


class CutsInsideADict(Backbone):
    def forward(self, x):
        h = self.maps(x)
        return {"features": h, "logits": self.head(h.mean((2, 3)))[: len(x)]}


class Asserts(Backbone):
    def forward(self, x):
        h = self.maps(x)
        assert h.shape[0] == x.shape[0], "another batch size"
        return self.head(h.mean((2, 3)))


class RaisesItsOwn(Backbone):
    def forward(self, x):
        h = self.maps(x)
        if h.shape[0] != x.shape[0]:
            raise KeyError("another batch size")
        return self.head(h.mean((2, 3)))


def ablated(model, x, layer, score):
    """Ablation-CAM, one channel after the other."""
    module, kept = model.get_submodule(layer), []
    with module.register_forward_hook(lambda _m, _i, out: kept.append(out.clone())), torch.no_grad():
        base = score(model(x))
    A = kept[0]
    raw = torch.zeros_like(A[:, 0])
    for k in range(A.shape[1]):
        without = A.clone()
        without[:, k] = 0
        with module.register_forward_hook(lambda _m, _i, _o, new=without: new), torch.no_grad():
            raw += (base - score(model(x)))[:, None, None] * A[:, k]
    return raw


@pytest.mark.parametrize("target", [1, lambda out: (out["logits"] if isinstance(out, dict) else out)[:, 1]])
@pytest.mark.parametrize("layer", ["relu", "last"])
@pytest.mark.parametrize("kind", [CutsTheOutput, LoopsOverSamples, CutsInsideADict, Asserts, RaisesItsOwn])
def test_ablation_of_models_that_look_at_their_batch_size(kind, layer, target):
    model, x = seeded(kind()).double(), images(rows=3).double()
    expected = ablated(model, x, layer, lambda out: (out["logits"] if isinstance(out, dict) else out)[:, 1])
    found = explain(model, x, method="ablationcam", layer=layer, target=target).raw
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected)


class Detector(Backbone):
    """One box and one unmatched box a picture, as lists of dicts."""

    def forward(self, x):
        values = super().forward(x).tanh()
        place = torch.tensor([0.0, 0.0, 10.0, 10.0], dtype=x.dtype)
        far = place + 20
        return [
            {
                "boxes": torch.stack([place + values[i], far]),
                "labels": torch.tensor([17, 3]),
                "scores": values[i, :2].sigmoid(),
            }
            for i in range(len(x))
        ]


BOX = torch.tensor([0.0, 0.0, 10.0, 10.0])


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("method", ["gradcam", "saliency", "ablationcam"])
def test_detections_of_a_class_beyond_the_four_of_a_box(method, chunk):
    model, x = seeded(Detector()).double(), images(rows=3).double()
    result = explain(model, x, method=method, target=DetectedBox(BOX, 17), chunk=chunk)
    every = explain(model, x, method=method, target=DetectedBox(BOX))  # the other box is far off
    assert result.target is None
    torch.testing.assert_close(result.raw, every.raw)
    assert not result.degenerate.any()
    if method == "ablationcam":
        expected = ablated(model, x, "last", DetectedBox(BOX, 17))
        torch.testing.assert_close(result.raw, expected)


def test_a_score_without_any_gradient_is_named_as_such():
    with pytest.raises(ValueError, match=r"At the \d+ calls that fit otherwise the scores have no gradient, or 0"):
        explain(seeded(Detector()), images(rows=2), target=DetectedBox(BOX, 5))


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_arrays_of_classes_go_with_their_part_of_the_batch(chunk):
    model, x = seeded(Net()), images(rows=3)
    result = explain(model, x, target=np.array([2, 0, 1]), chunk=chunk)
    assert result.target.tolist() == [2, 0, 1]
    torch.testing.assert_close(result.raw, explain(model, x, target=[2, 0, 1]).raw)
    assert explain(model, x, target=np.array(2), chunk=chunk).target.tolist() == [2, 2, 2]


@dataclass(slots=True)
class Slotted:
    name: str
    scores: Tensor


@dataclass(slots=True, frozen=True)
class FrozenSlotted:
    aux: Tensor
    logits: Tensor


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "scorecam", "integratedgradients"])
@pytest.mark.parametrize("wrap", [lambda y: Slotted("a", y), lambda y: FrozenSlotted(y[:, :1].clone(), y)])
def test_records_with_slots(method, wrap):
    class Model(Backbone):
        def forward(self, x):
            return wrap(super().forward(x))

    plain, model, x = seeded(Backbone()), seeded(Model()), images(rows=2)
    torch.testing.assert_close(explain(model, x, method=method).raw, explain(plain, x, method=method).raw)


@pytest.mark.parametrize("method", ["scorecam", "integratedgradients", "ablationcam"])
def test_selected_logits_need_not_have_the_batch_in_front(method):
    class Sequence(Backbone):
        def forward(self, x):
            y = super().forward(x)
            return torch.stack([y * 0, y])  # (T, N, K)

    plain, model, x = seeded(Backbone()), seeded(Sequence()), images(rows=2)
    found = explain(model, x, method=method, select=lambda out: out[-1])
    torch.testing.assert_close(found.raw, explain(plain, x, method=method).raw)


# ---------------------------------------------------------------- segmentation without a mask


class Segments(Backbone):
    def forward(self, x):
        return self.head(self.maps(x).movedim(1, -1)).movedim(-1, 1)


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize(
    "method", ["ablationcam", "scorecam", IntegratedGradients(steps=5), SmoothGrad(samples=3), "fullgrad", "gradcam"]
)
def test_the_winning_region_is_that_of_the_inputs_as_given(method, chunk):
    model, x = seeded(Segments()).double(), images(rows=3).double()
    winners = model(x).detach().argmax(1)
    target = int(winners.flatten().mode().values)
    free = explain(model, x, method=method, target=Region(target), layer=None, chunk=chunk)
    fixed = explain(model, x, method=method, target=Region(target, winners == target), layer=None)
    torch.testing.assert_close(free.raw, fixed.raw)
    torch.testing.assert_close(free.scores, fixed.scores)
    assert free.target.tolist() == [target] * 3


# ---------------------------------------------------------------- channels at the end, sequences of states


class Swinlike(nn.Module):
    """Patches with the channels at the end, pooled over the grid."""

    def __init__(self, channels=40):
        super().__init__()
        self.patches = nn.Conv2d(3, channels, 4, stride=4)
        self.norm = nn.LayerNorm(channels)
        self.block = nn.Sequential(nn.Linear(channels, channels), nn.GELU())
        self.head = nn.Linear(channels, 3)

    def forward(self, x):
        return self.head(self.block(self.norm(self.patches(x).movedim(1, -1))).mean((1, 2)))


@pytest.mark.parametrize("layer", [None, "block", "norm"])
@pytest.mark.parametrize("method", ["gradcam", "hirescam", "ablationcam", "eigencam", "refinecam"])
def test_channels_at_the_end_are_seen(method, layer):
    model, x = seeded(Swinlike()), torch.randn(2, 3, 20, 32, generator=torch.Generator().manual_seed(0))
    found = explain(model, x, method=method, layer=layer)
    said = explain(model, x, method=method, layer=layer or "block", tokens=Tokens(channels_last=True))
    raw, expected = (one.raw[0] if isinstance(one.raw, tuple) else one.raw for one in (found, said))
    assert raw.shape == (2, 5, 8)
    torch.testing.assert_close(raw, expected)
    assert {info.name: info.grid for info in layers(model, x)}["norm"] == (5, 8)


@pytest.mark.parametrize(
    ("shape", "size", "last"),
    [
        ((2, 7, 7, 768), (224, 224), True), ((2, 56, 56, 96), (224, 224), True), ((2, 64, 64, 96), (256, 256), True),
        ((2, 32, 32, 256), (256, 256), True), ((2, 2, 3, 768), (64, 96), True), ((2, 3, 5, 768), (72, 130), True),
        ((2, 8, 7, 7, 96), (16, 28, 28), True), ((2, 8, 14, 14, 96), (16, 28, 28), True),
        ((2, 512, 7, 7), (224, 224), False), ((2, 64, 56, 56), (224, 224), False), ((2, 7, 7, 7), (224, 224), False),
        ((2, 56, 56, 56), (224, 224), False), ((2, 8, 64, 512), (64, 512), False),
        ((2, 3, 224, 224), (224, 224), False),
        ((2, 4, 3, 4), (64, 96), False), ((2, 1, 1, 768), (32, 32), False), ((2, 100, 64), (400,), False),
        ((2, 16, 64, 16), (64, 64), False), ((0, 7, 7, 768), (224, 224), False),
        ((2, 4, 2, 2, 768), (8, 64, 64), True), ((2, 4, 16, 16, 96), (8, 64, 64), True),
        ((2, 64, 8, 64, 64), (8, 64, 64), False),
        ((2, 16, 64, 128), (64, 64), False), ((2, 32, 128, 128), (64, 64), False),
    ],
)  # fmt: skip
def test_what_can_only_have_its_channels_at_the_end(shape, size, last):
    assert infer_channels_last(shape, size) is last


class Recurrent(nn.Module):
    """A text reader: columns of the feature map are the steps of an LSTM."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.lstm = nn.LSTM(48, 5, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 4)

    def forward(self, x):
        states, _ = self.lstm(self.relu(self.conv(x)).permute(0, 3, 1, 2).flatten(2))
        return self.head(states.mean(1))


@pytest.mark.parametrize("width", [16, 18, 20, 24])
def test_states_of_a_recurrent_layer_are_no_grid(width):
    model, x = seeded(Recurrent()), torch.randn(2, 1, 8, width, generator=torch.Generator().manual_seed(0))
    assert explain(model, x).layer == ("relu",)
    assert not {info.name: info.fits for info in layers(model, x)}["lstm"]


def test_what_is_left_over_of_a_grid_is_a_small_part():
    assert infer_tokens(20, (8, 20)) is None
    assert infer_tokens(32, (32, 128)) is None
    assert infer_tokens(201, (224, 224)) == Tokens((14, 14), 5)


# ---------------------------------------------------------------- TorchScript and exported programs


def scripted(how):
    model, x = seeded(nn.Sequential(Backbone(), nn.BatchNorm1d(4))).eval(), images(rows=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's own
        if how == "trace":
            return torch.jit.trace(model, x), model, x
        module = torch.jit.script(model)
        return (torch.jit.freeze(module) if how == "freeze" else module), model, x


@pytest.mark.parametrize("how", ["trace", "script", "freeze"])
def test_torchscript_works_at_the_input_and_is_named_elsewhere(how):
    module, model, x = scripted(how)
    for method in ("saliency", "integratedgradients"):
        torch.testing.assert_close(explain(module, x, method=method).raw, explain(model, x, method=method).raw)
    for method in ("gradcam", "ablationcam", "eigencam"):
        with pytest.raises(ValueError, match="TorchScript, where hooks do not run"):
            explain(module, x, method=method)
    for method in ("guidedbackprop", "deconvnet", "fullgrad", "guidedgradcam"):
        with pytest.raises(ValueError, match="TorchScript"):
            explain(module, x, method=method)
    if how != "freeze":
        with pytest.raises(ValueError, match=r"`layer` '0\.last' takes no hooks\. Parts of the model are TorchScript"):
            explain(module, x, layer="0.last")


@pytest.mark.parametrize("how", ["trace", "script"])
def test_torchscript_inside_a_model_leaves_the_rest_explainable(how):
    class Scripted(nn.Module):
        def __init__(self):
            super().__init__()
            self.below = inner
            self.conv = nn.Conv2d(4, 5, 3)
            self.relu = nn.ReLU()
            self.head = nn.Linear(5, 3)

        def forward(self, x):
            return self.head(self.relu(self.conv(self.below(x))).mean((2, 3)))

    body, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), images(rows=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        inner = torch.jit.trace(body, x) if how == "trace" else torch.jit.script(body)
    model = seeded(Scripted())
    result = explain(model, x, method="ablationcam", target=1)
    assert result.layer == ("relu",)
    torch.testing.assert_close(result.raw, ablated(model, x, "relu", lambda out: out[:, 1]))
    if how == "trace":
        assert explain(model, x, layer="below").raw.shape[1:] == (9, 12)


class Mixed(nn.Module):
    """The activations and affine layers an exported program writes as operations of its own."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 4, 1, padding="same"),
            nn.ReLU(inplace=True), nn.ConvTranspose2d(4, 4, 2), nn.Hardtanh(0.0, 3.0),
        )  # fmt: skip
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(F.relu(self.body(x)).clamp(min=0).mean((2, 3)))


@pytest.mark.parametrize("method", ["guidedbackprop", "deconvnet", "fullgrad", "saliency"])
def test_exported_programs_follow_the_rules_too(method):
    model, x = seeded(Mixed()).double().eval(), images(rows=2).double()
    with torch.no_grad():
        model.body[1].running_mean.normal_(generator=torch.Generator().manual_seed(1))
        model.body[1].running_var.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(2))
    program = torch.export.export(model, (x,)).module()
    found, expected = explain(program, x, method=method), explain(model, x, method=method)
    torch.testing.assert_close(found.raw, expected.raw)
    if method == "fullgrad":
        assert found.delta.abs().max() < 1e-12
    with pytest.raises(ValueError, match="an exported one calls no modules"):
        explain(program, x)


# ---------------------------------------------------------------- noise in noise


def test_noise_around_a_method_that_draws_noise_is_not_the_same_noise():
    @dataclass(frozen=True)
    class Notes(Method):
        @property
        def traits(self):
            return Traits(random=True, layered=False)

        def attribute(self, call):
            seen.append(call.seeds)
            return Attribution((call.image.sum(1),))

    seen: list[tuple[int, ...]] = []
    model, x = seeded(Net()), images(rows=2)
    explain(model, x, method=Notes())
    explain(model, x, method=SmoothGrad(Notes(), samples=3))
    assert len(seen) == 4
    assert len({seed for seeds in seen for seed in seeds}) == 8  # none twice, nor the outer one's
    again = [explain(model, x, method=SmoothGrad(SmoothGrad(samples=2), samples=2)).raw for _ in range(2)]
    assert torch.equal(*again)


# ---------------------------------------------------------------- wrong uses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": np.array([3, 4])}, "`size` must be 'input', 'layer' or a sequence of 2 integers"),
        ({"select": 3}, "`select` must be a function; got 3"),
        ({"forward": "model"}, "`forward` must be a function; got 'model'"),
        ({"generator": 3}, "`generator` must be a torch.Generator; got 3"),
        ({"generator": 3, "method": "smoothgrad"}, "`generator` must be a torch.Generator; got 3"),
    ],
)
def test_wrong_types_of_options_are_named(options, message):
    with pytest.raises(TypeError, match=message):
        explain(seeded(Net()), images(rows=1), **options)


@pytest.mark.parametrize("chunk", [1, 2, 3])
@pytest.mark.parametrize("wrap", [lambda base: base, lambda base: SmoothGrad(base, samples=2), FinerCAM])
def test_a_baseline_a_sample_goes_with_its_part_of_the_batch(wrap, chunk):
    model, x = seeded(Net()).double(), images(rows=3).double()
    shared = images(rows=1, seed=5)[0]  # of shape (3, H, W), with as many channels as samples
    for baseline in (images(rows=3, seed=4), shared):
        method = wrap(IntegratedGradients(steps=4, baseline=baseline))
        found, whole = (explain(model, x, method=method, target=[0, 1, 2], chunk=part) for part in (chunk, None))
        torch.testing.assert_close(found.attributions, whole.attributions)


@pytest.mark.parametrize(
    ("fuse", "combined"),
    [
        ("mean", lambda a, b: (a + b) / 2),
        ("max", torch.maximum),
        ("product", lambda a, b: a * b),
        ("tanh-max", lambda a, b: torch.maximum((2 * a).tanh(), b)),
    ],
)
def test_fused_maps_without_normalisation_keep_their_scale(fuse, combined):
    model, x = seeded(Net()), images(rows=3)
    a, b = (explain(model, x, layer=name, target=1, normalize="none").maps for name in ("conv1", "norm"))
    fused = explain(model, x, layer=["conv1", "norm"], target=1, normalize="none", fuse=fuse)
    torch.testing.assert_close(fused.maps, combined(a, b))


@pytest.mark.parametrize("method", ["guidedbackprop", "deconvnet"])
@pytest.mark.parametrize(
    "rectify",
    [
        lambda h: F.threshold(h, 0.0, 0.0), lambda h: F.threshold(h, threshold=0, value=0, inplace=True),
        nn.Threshold(0.0, 0.0), lambda h: torch.threshold(h * 1, 0, 0), lambda h: F.threshold_(h * 1, 0, 0),
        lambda h: torch.clamp_min_(h * 1, 0),
    ],
)  # fmt: skip
def test_more_spellings_of_relu_follow_the_rules(rectify, method):
    class Model(Backbone):
        def maps(self, x):
            return rectify(self.second(self.relu(self.conv(x))))

    plain, model, x = seeded(Backbone()), seeded(Model()), images(rows=2)
    torch.testing.assert_close(explain(model, x, method=method).raw, explain(plain, x, method=method).raw)


def test_a_threshold_elsewhere_is_no_relu():
    class Model(Backbone):
        def maps(self, x):
            return F.threshold(self.second(x[:, :1].repeat(1, 6, 1, 1)), 0.1, 0.0)

    model, x = seeded(Model()), images(rows=2)
    guided, plain = (explain(model, x, method=name).raw for name in ("guidedbackprop", "saliency"))
    torch.testing.assert_close(guided, plain)


# ---------------------------------------------------------------- statistics of the batch


class BatchStatistics(Backbone):
    """Batch norms without running statistics use those of the batch, in eval mode too."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(6, track_running_stats=False)
        self.late = nn.BatchNorm1d(5, track_running_stats=False)

    def maps(self, x):
        return self.last(self.second(self.relu(self.norm(self.conv(x)))))

    def forward(self, x):
        return self.head(self.late(self.maps(x).mean((2, 3))).tanh())


def batch_statistics():
    model, generator = BatchStatistics().double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("method", ["scorecam", "iscam", "groupcam", "integratedgradients"])
def test_copies_do_not_share_the_statistics_of_a_batch(method):
    model, x = batch_statistics(), images(rows=3).double()
    found, alone = (explain(model, x, method=method, target=1, chunk=chunk) for chunk in (None, 3))
    torch.testing.assert_close(found.raw, alone.raw)
    if method == "integratedgradients":
        torch.testing.assert_close(found.delta, alone.delta)


def test_ablation_keeps_the_batch_together_where_it_has_statistics():
    model, x = batch_statistics(), images(rows=3).double()
    found = explain(model, x, method="ablationcam", layer="last", target=1).raw
    torch.testing.assert_close(found, ablated(model, x, "last", lambda out: out[:, 1]))


def test_score_cam_as_is_in_training_sees_one_batch_a_pass():
    model, x = seeded(Net()).double().train(), images(rows=3).double()
    model.dropout.eval()
    found, alone = (explain(model, x, method="scorecam", target=1, mode="as-is", chunk=chunk) for chunk in (None, 3))
    torch.testing.assert_close(found.raw, alone.raw)
