"""Agreement with the peers on raw maps where definitions agree, and how they differ where they do not.

pytorch-grad-cam cannot live beside the CPU build of torch: its numbers were made by ``reference/explain_golden.py`` and
are stored; in an environment that has it, the `peers` test makes them again.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cvkit.explain import IntegratedGradients, capture, explain
from reference import explain_golden
from reference.explain_golden import TARGETS, GoldenNet, golden_input

GOLDEN = json.loads((Path(explain_golden.__file__).parent / "explain_golden.json").read_text(encoding="ascii"))["maps"]
SAME = ("gradcam", "hirescam", "elementwise", "xgradcam", "layercam", "scorecam")


def raw(method):
    found = explain(GoldenNet().eval(), golden_input(), method=method, layer="conv2", target=torch.tensor(TARGETS))
    return found.raw, found.scores


def stored(name):
    return torch.tensor(GOLDEN[name]).view(2, 9, 12)


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


def tensors():
    """Return the activation and its gradient at the layer."""
    model = GoldenNet().eval()
    with capture(model, "conv2") as seen:
        score = model(golden_input())[torch.arange(2), torch.tensor(TARGETS)].sum()
    activation = seen.activation()
    (gradient,) = torch.autograd.grad(score, activation)
    return activation.detach(), gradient


def principal(features):
    """Return the projection of (C, H, W) on its first right singular vector after each channel's mean is taken off."""
    rows = features.flatten(1).T
    rows = rows - rows.mean(0)
    return (rows @ torch.linalg.svd(rows, full_matrices=False)[2][0]).view(features.shape[1:])


@pytest.mark.parametrize("method", SAME)
def test_pytorch_grad_cam_has_the_same_raw_maps(method):
    assert relative(raw(method)[0], stored(method)) < 1e-5


def test_pytorch_grad_cams_ablation_is_divided_by_the_score_which_turns_negative_ones_over():
    maps, scores = raw("ablationcam")
    assert relative(maps, stored("ablationcam") * scores[:, None, None]) < 1e-5
    assert (scores < 0).any()


@pytest.mark.parametrize("method", ["eigencam", "eigengradcam"])
def test_pytorch_grad_cams_principal_maps_are_centred_and_of_any_sign(method):
    activation, gradient = tensors()
    features = activation if method == "eigencam" else activation * gradient
    for theirs, one in zip(stored(method), features, strict=True):
        expected = principal(one)
        assert min(relative(theirs, expected), relative(-theirs, expected)) < 1e-4


def test_pytorch_grad_cams_plus_plus_is_off_by_its_epsilon():
    off = relative(raw("gradcam++")[0], stored("gradcam++"))
    assert 1e-4 < off < 0.05


@pytest.mark.peers
@pytest.mark.slow
def test_the_stored_numbers_are_the_peers(tmp_path, monkeypatch):
    pytest.importorskip("pytorch_grad_cam")
    monkeypatch.setattr(explain_golden, "HERE", tmp_path)
    explain_golden.main()
    made = json.loads((tmp_path / "explain_golden.json").read_text(encoding="ascii"))["maps"]
    for name, maps in GOLDEN.items():
        assert relative(torch.tensor(made[name]).abs(), torch.tensor(maps).abs()) < 1e-4


@pytest.mark.filterwarnings("ignore")  # captum warns of its own hooks
class TestCaptum:
    def test_gradcam(self):
        attr = pytest.importorskip("captum.attr")
        model = GoldenNet().eval()
        theirs = attr.LayerGradCam(model, model.conv2).attribute(golden_input(), target=torch.tensor(TARGETS))
        assert relative(raw("gradcam")[0], theirs.detach()[:, 0]) < 1e-5

    def test_integrated_gradients(self):
        attr = pytest.importorskip("captum.attr")
        model, x, target = GoldenNet().eval(), golden_input(), torch.tensor(TARGETS)
        theirs = attr.IntegratedGradients(model).attribute(
            x, torch.zeros_like(x), target=target, n_steps=24, method="gausslegendre"
        )
        ours = explain(model, x, method=IntegratedGradients(steps=24), target=target)
        assert relative(ours.attributions, theirs.detach()) < 1e-5


class TestTorchCam:
    def maps(self, name):
        methods = pytest.importorskip("torchcam.methods")
        model = GoldenNet().eval()
        with getattr(methods, name)(model, target_layer="conv2") as extractor:
            return extractor(list(TARGETS), model(golden_input()), normalized=False)[0].detach()

    @pytest.mark.parametrize(
        ("name", "method"), [("XGradCAM", "xgradcam"), ("LayerCAM", "layercam"), ("GradCAM", "gradcam")]
    )
    def test_same_maps_where_they_are_positive(self, name, method):
        assert relative(raw(method)[0].relu(), self.maps(name)) < 1e-5

    @pytest.mark.fault("jacobgil/pytorch-grad-cam#369")
    def test_its_plus_plus_weights_are_cubes_of_gradients(self):
        # Its division by the denominator of Eq. (19) works on a copy, so that nothing is divided.
        activation, gradient = tensors()
        cubes = (gradient.relu() ** 3).sum((2, 3), keepdim=True)
        theirs = self.maps("GradCAMpp")
        assert relative((cubes * activation).sum(1).relu(), theirs) < 1e-4
        assert relative(raw("gradcam++")[0].relu(), theirs) > 0.1
