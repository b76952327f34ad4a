"""Input attribution: completeness, rules against a hand-made backward pass, noise written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cvkit.explain import (
    METHODS,
    FullGrad,
    GradCAM,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
    SmoothGradCAMPlusPlus,
    cam,
    capture,
    explain,
)
from cvkit.explain._method import draw_normal
from reference.explain_models import MLPHead, Net, images, seeded


def curved(rank=2, seed=3):
    return seeded(MLPHead(rank), seed, torch.float64)


def gradient(model, x, target=1):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model(x)[:, target].sum(), x)[0]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_saliency_and_input_times_gradient_are_what_their_names_say(rank):
    model, x = curved(rank), images(rank, dtype=torch.float64)
    g = gradient(model, x)
    found = explain(model, x, method="saliency", target=1)
    torch.testing.assert_close(found.attributions, g)
    torch.testing.assert_close(found.raw, g.abs().amax(1))
    found = explain(model, x, method="inputxgradient", target=1)
    torch.testing.assert_close(found.attributions, x * g)
    torch.testing.assert_close(found.raw, (x * g).sum(1))


# ---------------------------------------------------------------- integrated gradients


class Smooth(nn.Module):
    """A polynomial of degree 4 in the input: Gauss-Legendre with 2 nodes is exact."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 3 * 5 * 4, dtype=torch.float64).view(3, 5, 4))

    def forward(self, x):
        s = (self.weight * x).flatten(1).sum(1, keepdim=True)
        return torch.cat([s**4, s + s**2, s**3], 1)


def test_integrated_gradients_are_complete_and_exact_for_polynomials():
    model, x = Smooth(), images(size=(5, 4), dtype=torch.float64)
    for target in range(3):
        found = explain(model, x, method=IntegratedGradients(steps=2, baseline=0.1), target=target)
        ends = model(x)[:, target] - model(torch.full_like(x, 0.1))[:, target]
        torch.testing.assert_close(found.attributions.flatten(1).sum(1), ends)
        torch.testing.assert_close(found.delta, torch.zeros_like(ends), atol=1e-12, rtol=0)


def test_the_gap_of_completeness_is_reported_and_shrinks():
    model, x = curved(), images(dtype=torch.float64)
    gaps = [
        explain(model, x, method=IntegratedGradients(steps=steps), target=1).delta.abs().max().item()
        for steps in (1, 8, 64, 256)
    ]
    assert gaps[3] < gaps[1] < gaps[0]
    assert gaps[3] < 1e-3
    found = explain(model, x, method=IntegratedGradients(steps=8), target=1)
    with torch.no_grad():
        ends = model(x)[:, 1] - model(torch.zeros_like(x))[:, 1]
    torch.testing.assert_close(found.delta, found.attributions.flatten(1).sum(1) - ends)


def test_integrated_gradients_equal_a_long_sum():
    model, x = curved(), images(dtype=torch.float64)
    total = torch.zeros_like(x)
    steps = 600
    for k in range(steps):
        total += gradient(model, x * (k + 0.5) / steps) / steps
    found = explain(model, x, method=IntegratedGradients(steps=200), target=1)
    torch.testing.assert_close(found.attributions, x * total, atol=1e-2 * (x * total).abs().max().item(), rtol=0)


@given(st.integers(1, 9), st.integers(1, 7))
@settings(max_examples=10)
def test_integrated_gradients_do_not_depend_on_the_chunk(steps, chunk):
    model, x = curved(), images(rows=2, dtype=torch.float64)
    method = IntegratedGradients(steps=steps)
    a, b = (explain(model, x, method=method, target=1, chunk=c) for c in (None, chunk))
    torch.testing.assert_close(a.attributions, b.attributions)


def test_baselines_may_be_tensors():
    model, x = curved(), images(dtype=torch.float64)
    base = images(seed=8, rows=1, dtype=torch.float64)[0]
    a = explain(model, x, method=IntegratedGradients(baseline=base), target=1)
    b = explain(model, x, method=IntegratedGradients(baseline=base.expand_as(x)), target=1)
    torch.testing.assert_close(a.attributions, b.attributions)
    same = explain(model, x, method=IntegratedGradients(baseline=x), target=1)
    assert not same.attributions.any()
    assert same.degenerate.all()
    with pytest.raises(ValueError, match="`baseline` must have shape"):
        explain(model, x, method=IntegratedGradients(baseline=base[:, :2]), target=1)


# ---------------------------------------------------------------- rules for ReLU


class Spelled(nn.Module):
    """The same network with ReLU in a chosen spelling."""

    def __init__(self, relu):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3)
        self.head = nn.Linear(5, 3)
        self.relu = relu

    def forward(self, x):
        return self.head(self.relu(self.conv2(self.relu(self.conv1(x)))).mean((2, 3)))


SPELLINGS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "torch.clamp": lambda x: torch.clamp(x, 0),
    "clamp_min": lambda x: x.clamp_min(0.0),
    "clamp_": lambda x: x.clamp_(min=0),
}


BOUNDED = {
    "ReLU6": nn.ReLU6(),
    "ReLU6 in place": nn.ReLU6(inplace=True),
    "F.relu6": F.relu6,
    "F.relu6 in place": lambda x: F.relu6(x, inplace=True),
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
    "hardtanh by name": lambda x: F.hardtanh(x, min_val=0.0, max_val=6.0, inplace=True),
    "hardtanh_": lambda x: F.hardtanh_(x, 0.0, 6.0),
    "clamp": lambda x: x.clamp(0, 6),
    "clip": lambda x: torch.clip(x, min=0, max=6),
    "clamp_": lambda x: x.clamp_(0, max=6),
}


def by_hand(model, x, guided, high=float("inf")):
    """Forward and backward through `Spelled`, each rule written out."""
    one = F.conv2d(x, model.conv1.weight, model.conv1.bias, padding=1)
    two = F.conv2d(one.clamp(min=0, max=high), model.conv2.weight, model.conv2.bias)
    g = model.head.weight[1].view(1, -1, 1, 1).expand_as(two) / two[0, 0].numel()
    for before, weight, padding in ((two, model.conv2.weight, 0), (one, model.conv1.weight, 1)):
        g = g.clamp(min=0)
        if guided:
            g = g * (before > 0) * (before < high)
        g = F.conv_transpose2d(g, weight, padding=padding)
    return g


@pytest.mark.parametrize("spelling", list(SPELLINGS))
@pytest.mark.parametrize("method", ["guidedbackprop", "deconvnet"])
@pytest.mark.fault("meta-pytorch/captum#837")
def test_guided_rules_hold_for_every_spelling_of_relu(method, spelling):
    model, x = seeded(Spelled(SPELLINGS[spelling]), 2, torch.float64), images(dtype=torch.float64)
    with torch.no_grad():
        expected = by_hand(model, x, guided=method == "guidedbackprop")
    found = explain(model, x, method=method, target=1)
    torch.testing.assert_close(found.attributions, expected)
    assert (found.attributions - gradient(seeded(Spelled(F.relu), 2, torch.float64), x)).abs().max() > 1e-3
    with torch.no_grad():
        torch.testing.assert_close(found.logits, model(x))


@pytest.mark.parametrize("spelling", list(BOUNDED))
@pytest.mark.parametrize("method", ["guidedbackprop", "deconvnet"])
def test_guided_rules_hold_for_relu_with_an_upper_bound(method, spelling):
    model, x = seeded(Spelled(BOUNDED[spelling]), 2, torch.float64), 12 * images(dtype=torch.float64)
    assert (model.conv1(x) > 6).any()
    with torch.no_grad():
        expected = by_hand(model, x, guided=method == "guidedbackprop", high=6.0)
        without = by_hand(model, x, guided=method == "guidedbackprop")
    found = explain(model, x, method=method, target=1)
    torch.testing.assert_close(found.attributions, expected)
    assert (expected - without).abs().max() > 1e-3 or method == "deconvnet"
    with torch.no_grad():
        torch.testing.assert_close(found.logits, model(x))


@pytest.mark.parametrize(
    "function",
    [lambda x: x.clamp(-1, 6), lambda x: x.clamp(max=1), F.hardtanh, F.gelu, lambda x: x.clamp(x * 0, x + 1)],
)
def test_other_clamps_and_functions_are_left_alone(function):
    model, x = seeded(Spelled(function), 2, torch.float64), images(dtype=torch.float64)
    torch.testing.assert_close(explain(model, x, method="guidedbackprop", target=1).attributions, gradient(model, x))


def test_guided_gradcam_is_the_product():
    model, x = curved(), images(dtype=torch.float64)
    guided = explain(model, x, method="guidedbackprop", target=1).attributions
    coarse = explain(model, x, method="gradcam", layer="body.3", target=1).maps
    found = explain(model, x, method="guidedgradcam", layer="body.3", target=1)
    torch.testing.assert_close(found.attributions, guided * coarse[:, None].double(), rtol=1e-5, atol=1e-9)


# ---------------------------------------------------------------- FullGrad


class Mixed(nn.Module):
    """Biases of every kind, some in functions."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.weight = nn.Parameter(torch.zeros(5, 4, 3, 3))
        self.bias = nn.Parameter(torch.zeros(5))
        self.bare = nn.BatchNorm2d(5, affine=False)
        self.fc1, self.fc2 = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.conv1(x)), inplace=True)
        x = F.relu(self.bare(F.conv2d(self.up(x), self.weight, bias=self.bias)))
        return self.fc2(F.relu(self.fc1(x.mean((2, 3)))))


@pytest.mark.parametrize("make", [Mixed, MLPHead, Net])
def test_fullgrad_is_complete(make):
    model, x = seeded(make(), 4, torch.float64), images(dtype=torch.float64)
    found = explain(model, x, method=FullGrad(), target=1)
    assert found.scores.abs().max() > 0.01
    torch.testing.assert_close(found.delta, torch.zeros_like(found.delta), atol=1e-10, rtol=0)


def test_fullgrad_reports_what_is_not_piecewise_linear():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    seeded(model, 0, torch.float64)
    found = explain(model, images(dtype=torch.float64), method="fullgrad", target=1)
    assert (found.delta.abs() > 1e-3).all()


def test_fullgrad_map_equals_its_parts_written_out():
    model, x = (
        seeded(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 1),
        images(),
    )
    found = explain(model, x, method="fullgrad", target=1)

    def psi(part):
        part = part.abs()
        low, high = part.flatten(1).amin(1).view(-1, 1, 1, 1), part.flatten(1).amax(1).view(-1, 1, 1, 1)
        return ((part - low) / (high - low)).sum(1)

    before = model[0](x)
    at_bias = torch.zeros_like(before)
    at_bias[:, 1] = (before[:, 1] > 0).float() / before[0, 0].numel()
    expected = psi(x * gradient(model, x)) + psi(at_bias * model[0].bias.view(1, -1, 1, 1))
    torch.testing.assert_close(found.raw, expected.detach())


def test_one_pass_of_fullgrad_for_models_with_batch_statistics_is_honest():
    model, x = seeded(Net(), 0), images()
    model.train()
    found = explain(model, x, method="fullgrad", target=1, mode="as-is")
    assert (found.delta.abs() > 1e-4).any()


# ---------------------------------------------------------------- noise


def noises(x, samples, sigma, seed):
    """The noisy copies, from what the documentation says."""
    drawn = torch.Generator().manual_seed(seed)
    own = [torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=drawn))) for _ in x]
    span = (x.flatten(1).amax(1) - x.flatten(1).amin(1)).view(-1, 1, 1, 1)
    return [x + sigma * span * draw_normal(own, x) for _ in range(samples)]


@pytest.mark.parametrize("kind", ["mean", "var", "square"])
def test_noise_around_saliency_equals_its_copies(kind):
    model, x = curved(), images(dtype=torch.float64)
    stack = torch.stack([gradient(model, noisy) for noisy in noises(x, 5, 0.2, 7)])
    expected = {"mean": stack.mean(0), "var": stack.var(0, correction=0), "square": stack.square().mean(0)}[kind]
    method = SmoothGrad(samples=5, sigma=0.2, kind=kind)
    found = explain(model, x, method=method, target=1, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(found.attributions, expected)
    torch.testing.assert_close(found.raw, expected.abs().amax(1))


def test_noise_goes_around_any_method():
    model, x = curved(), images(dtype=torch.float64)
    copies = noises(x, 4, 0.1, 7)
    raws = [explain(model, noisy, layer="body.3", target=1).raw for noisy in copies]
    method = SmoothGrad(GradCAM(), samples=4, sigma=0.1)
    assert method.traits.layered
    found = explain(model, x, method=method, layer="body.3", target=1, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(found.raw, torch.stack(raws).mean(0))
    assert found.attributions is None


def test_the_target_is_the_class_predicted_without_noise():
    model, x = curved(), images(dtype=torch.float64)
    predicted = model(x).argmax(1)
    found = explain(model, x, method=SmoothGrad(samples=3, sigma=5.0))
    assert torch.equal(found.target, predicted)
    again = explain(model, x, method=SmoothGrad(samples=3, sigma=5.0), target=predicted)
    assert torch.equal(found.attributions, again.attributions)


@pytest.mark.fault("yiskw713/SmoothGradCAMplusplus#2")
def test_smooth_gradcam_plus_plus_averages_every_derivative():
    model, x = curved(), images(dtype=torch.float64)
    gradients = []
    for noisy in noises(x, 4, 0.15, 3):
        with capture(model, "body.3") as seen:
            logits = model(noisy)
        gradients.append(seen.gradient(logits[:, 1]))
    with capture(model, "body.3") as seen:
        model(x)
    expected = cam.smooth_gradcam_plus_plus(seen.activation().detach(), torch.stack(gradients))
    method = SmoothGradCAMPlusPlus(samples=4, sigma=0.15)
    found = explain(model, x, method=method, layer="body.3", target=1, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(found.raw, expected)


def test_without_noise_smoothing_changes_nothing():
    model, x = curved(), images(dtype=torch.float64)
    plain = explain(model, x, method="saliency", target=1).attributions
    still = explain(model, x, method=SmoothGrad(samples=3, sigma=0.0), target=1).attributions
    torch.testing.assert_close(still, plain)
    spread = explain(model, x, method=SmoothGrad(samples=3, sigma=0.0, kind="var"), target=1)
    assert not spread.attributions.any()
    assert spread.degenerate.all()


@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name].traits.layered])
def test_input_methods_refuse_layers(name):
    with pytest.raises(ValueError, match="`layer` is not for"):
        explain(curved(), images(dtype=torch.float64), method=name, layer="body.3")


def test_a_detached_output_is_named():
    class Detached(Net):
        def forward(self, x):
            return super().forward(x).detach()

    for method in ("saliency", "integratedgradients", "guidedbackprop"):
        with pytest.raises(ValueError, match="do not depend on the input through a graph"):
            explain(seeded(Detached()), images(), method=method)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IntegratedGradients(steps=0), "`steps` must be at least 1"),
        (lambda: IntegratedGradients(baseline=float("nan")), "`baseline` must be finite"),
        (lambda: SmoothGrad(samples=0), "`samples` must be at least 1"),
        (lambda: SmoothGrad(kind="median"), "`kind` must be one of"),
        (lambda: SmoothGrad(sigma=-0.1), "`sigma` must lie in"),
    ],
)
def test_wrong_constants_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_base_must_be_a_method():
    with pytest.raises(TypeError, match="`base` must be Method"):
        SmoothGrad("saliency")
    assert SmoothGrad(Saliency()) == SmoothGrad()
