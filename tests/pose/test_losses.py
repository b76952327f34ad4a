import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit import pose
from cvkit.pose.losses import map_variances

SIZES = {"n": 2, "s": 3, "j": 4, "h": 5, "w": 6}


def sample(seed=0, *, stacks=True, dtype=torch.float64, **sizes):
    n, s, j, h, w = ({**SIZES, **sizes}[k] for k in "nsjhw")
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(n, *(s,) * stacks, j, h, w, generator=generator, dtype=dtype)
    heatmaps = torch.rand(n, j, h, w, generator=generator, dtype=dtype)
    weights = (torch.rand(n, j, generator=generator) < 0.6).to(dtype)
    weights[0, 0] = 1
    return outputs, heatmaps, weights


def distribution(heatmaps):
    return heatmaps / heatmaps.sum((-2, -1), keepdim=True)


def slow_awing(y_hat, y, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    """Wang et al., Eq. (3)-(4), one pixel."""
    power = alpha - y
    a = omega * (1 / (1 + (theta / epsilon) ** power)) * power * (theta / epsilon) ** (power - 1) / epsilon
    c = theta * a - omega * math.log(1 + (theta / epsilon) ** power)
    d = abs(y - y_hat)
    return omega * math.log(1 + (d / epsilon) ** power) if d < theta else a * d - c


@given(seed=st.integers(0, 10**6), normalize=st.sampled_from(["labelled", "all"]))
def test_masked_mse_agrees_with_loops(seed, normalize):
    outputs, heatmaps, weights = sample(seed)
    total, count = 0.0, 0.0
    for i in range(2):
        for j in range(4):
            count += float(weights[i, j]) if normalize == "labelled" else 1
            for s in range(3):
                total += float(weights[i, j]) * float(((outputs[i, s, j] - heatmaps[i, j]) ** 2).mean())
    assert float(pose.masked_mse(outputs, heatmaps, weights, normalize=normalize)) == pytest.approx(total / count)


@given(seed=st.integers(0, 10**6), hardest=st.integers(1, 6), normalize=st.sampled_from(["labelled", "all"]))
def test_ohkm_agrees_with_loops(seed, hardest, normalize):
    outputs, heatmaps, weights = sample(seed)
    total = 0.0
    for s in range(3):
        loss, count = 0.0, 0.0
        for i in range(2):
            errors = [
                (float(weights[i, j]) * float(((outputs[i, s, j] - heatmaps[i, j]) ** 2).mean()), float(weights[i, j]))
                for j in range(4)
            ]
            chosen = sorted(errors, key=lambda e: -e[0])[:hardest]
            loss += sum(e for e, _ in chosen)
            count += sum(w for _, w in chosen) if normalize == "labelled" else len(chosen)
        total += loss / max(count, 1e-9)
    assert float(pose.ohkm_mse(outputs, heatmaps, weights, hardest=hardest, normalize=normalize)) == pytest.approx(
        total
    )


@pytest.mark.fault("protossw512/AdaptiveWingLoss#14")
@given(seed=st.integers(0, 10**6))
def test_adaptive_wing_agrees_with_the_paper_pixel_by_pixel(seed):
    outputs, heatmaps, weights = sample(seed, s=1, n=1, j=1, h=3, w=4)
    plain = np.mean(
        [slow_awing(float(a), float(b)) for a, b in zip(outputs.flatten(), heatmaps.flatten(), strict=True)]
    )
    assert float(pose.adaptive_wing(outputs, heatmaps, weights, focus=0)) == pytest.approx(plain)
    other = np.mean(
        [
            slow_awing(float(a), float(b), 2.5, 10.0, 2.0, 0.3)
            for a, b in zip(outputs.flatten(), heatmaps.flatten(), strict=True)
        ]
    )
    found = pose.adaptive_wing(outputs, heatmaps, weights, alpha=2.5, omega=10, epsilon=2, theta=0.3, focus=0)
    assert float(found) == pytest.approx(other)


@pytest.mark.fault("protossw512/AdaptiveWingLoss#27")
@pytest.mark.parametrize("target", [0.0, 0.4, 1.0])
def test_adaptive_wing_is_continuous_in_value_and_slope_at_theta(target):
    def value_and_slope(d):
        output = torch.tensor(target + d, dtype=torch.float64).reshape(1, 1, 1, 1).requires_grad_()
        loss = pose.adaptive_wing(
            output, torch.full((1, 1, 1, 1), target, dtype=torch.float64), torch.ones(1, 1), focus=0
        )
        loss.backward()
        return float(loss.detach()), float(output.grad)

    below, above = value_and_slope(0.5 - 1e-9), value_and_slope(0.5 + 1e-9)
    assert below == pytest.approx(above, rel=1e-6)


def test_adaptive_wing_focuses_near_high_targets():
    heatmaps = torch.zeros(1, 1, 5, 5)
    heatmaps[0, 0, 2, 2] = 0.2
    outputs = heatmaps + 0.1
    near, far = outputs.clone(), outputs.clone()
    near[0, 0, 1, 1] += 0.1  # beside the target: counts eleven times
    far[0, 0, 0, 4] += 0.1
    base = pose.adaptive_wing(outputs, heatmaps, torch.ones(1, 1))
    gain = [float(pose.adaptive_wing(o, heatmaps, torch.ones(1, 1)) - base) for o in (near, far)]
    assert gain[0] / gain[1] == pytest.approx(11, rel=1e-3)


@given(seed=st.integers(0, 10**6))
def test_divergences_agree_with_sums(seed):
    logits, heatmaps, weights = sample(seed, s=1, n=1, j=1)
    q = distribution(heatmaps)
    p = logits.flatten(2).softmax(-1).flatten().numpy()
    q_flat = q.flatten().numpy()
    m = (p + q_flat) / 2
    kl = float((q_flat * np.log(q_flat / p)).sum())
    js = float((p * np.log(p / m)).sum() + (q_flat * np.log(q_flat / m)).sum()) / 2
    assert float(pose.kl_divergence(logits, q, weights)) == pytest.approx(kl)
    assert float(pose.js_divergence(logits, q, weights, rescue=0)) == pytest.approx(js)
    assert float(pose.js_divergence(logits, q, weights, rescue=0.3)) == pytest.approx(0.7 * js + 0.3 * kl)


@pytest.mark.fault("anibali/dsntnn#17")
def test_divergences_pull_a_confidently_wrong_map():
    logits = torch.zeros(1, 1, 8, 8)
    logits[0, 0, 0, 0] = 200.0
    target = torch.zeros(1, 1, 8, 8)
    target[0, 0, 7, 7] = 1

    def gradient(loss):
        leaf = logits.clone().requires_grad_()
        value = loss(leaf)
        assert torch.isfinite(value)
        value.backward()
        return leaf.grad[0, 0]

    one = torch.ones(1, 1)
    plain = gradient(lambda x: pose.js_divergence(x, target, one, rescue=0))
    assert plain.abs().max() < 1e-6  # what the published form gives: nothing to follow
    for loss in (lambda x: pose.js_divergence(x, target, one), lambda x: pose.kl_divergence(x, target, one)):
        pull = gradient(loss)
        assert pull[7, 7] < -0.01
        assert pull[0, 0] > 0.01


@pytest.mark.fault("anibali/margipose#37")
@pytest.mark.fault("anibali/dsntnn#1")
def test_js_is_never_negative_and_zero_at_equality():
    logits = torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(0)) * 30
    q = torch.softmax(logits.flatten(2), -1).reshape(logits.shape)
    assert pose.js_divergence(logits, q, torch.ones(4, 3)).abs() < 1e-6
    shuffled = q.flip(-1)
    assert pose.js_divergence(logits, shuffled, torch.ones(4, 3)) > 0


def test_variance_of_a_known_map():
    p = torch.tensor([[0.5, 0.0, 0.5]]).clamp_min(1e-30).log()
    assert map_variances(p).tolist() == pytest.approx([1.0, 0.0])
    logits = p[None, None].requires_grad_()
    assert float(pose.variance_regularizer(logits, torch.ones(1, 1), sigma=1.0).detach()) == pytest.approx(1.0)
    stacked = torch.stack([p[None, None], p[None, None]], 1)
    assert float(pose.variance_regularizer(stacked, torch.ones(1, 1))) == pytest.approx(2.0)


@pytest.mark.parametrize(("kind", "expected"), [("euclidean", 5.0), ("l1", 7.0), ("smooth_l1", 2.5 + 3.5)])
def test_coordinate_losses_on_three_and_four(kind, expected):
    found = pose.coordinate_loss(torch.tensor([[[3.0, 4.0]]]), torch.zeros(1, 1, 2), torch.ones(1, 1), kind=kind)
    assert float(found) == pytest.approx(expected)


def test_wing_loss_joins_at_omega():
    one = torch.ones(1, 1, dtype=torch.float64)

    def wing(x):
        return float(
            pose.coordinate_loss(
                torch.tensor([[[x, 0.0]]], dtype=torch.float64), torch.zeros(1, 1, 2).double(), one, kind="wing"
            )
        )

    assert wing(4.0) == pytest.approx(10 * math.log1p(2.0))
    assert wing(10 - 1e-9) == pytest.approx(wing(10 + 1e-9))
    assert wing(15.0) == pytest.approx(15 - (10 - 10 * math.log1p(5.0)))


LOSSES = {
    "mse": pose.masked_mse,
    "ohkm": lambda o, t, w, **k: pose.ohkm_mse(o, t, w, hardest=2, **k),
    "awing": pose.adaptive_wing,
    "kl": lambda o, t, w, **k: pose.kl_divergence(o, distribution(t), w, **k),
    "js": lambda o, t, w, **k: pose.js_divergence(o, distribution(t), w, **k),
    "variance": lambda o, t, w, **k: pose.variance_regularizer(o, w, **k),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradcheck(loss):
    outputs, heatmaps, weights = sample(1, n=1, s=2, j=2, h=2, w=3)
    assert torch.autograd.gradcheck(lambda o: loss(o, heatmaps, weights), (outputs.requires_grad_(),))


@pytest.mark.parametrize("kind", ["euclidean", "l1", "smooth_l1", "wing"])
def test_coordinate_gradcheck_and_gradient_at_zero(kind):
    places = torch.tensor([[[3.2, -1.1], [0.4, 12.3]]], dtype=torch.float64, requires_grad=True)
    target = torch.zeros(1, 2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: pose.coordinate_loss(p, target, torch.ones(1, 2), kind=kind), (places,))
    same = torch.zeros(1, 2, 2, requires_grad=True)
    pose.coordinate_loss(same, torch.zeros(1, 2, 2), torch.ones(1, 2), kind=kind).backward()
    assert torch.isfinite(same.grad).all()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_masked_joints_do_not_dilute_or_poison(loss):
    outputs, heatmaps, weights = sample(2)
    weights = torch.zeros_like(weights)
    weights[:, :2] = 1
    whole = loss(outputs[:, :, :2], heatmaps[:, :2], weights[:, :2])
    torch.testing.assert_close(loss(outputs, heatmaps, weights), whole)  # half of the joints masked: the same loss
    if loss is not LOSSES["ohkm"]:
        torch.testing.assert_close(loss(outputs, heatmaps, weights, normalize="all"), whole / 2)
    poisoned, strange = outputs.clone(), heatmaps.clone()
    poisoned[:, :, 3] = strange[:, 2:] = float("nan")
    torch.testing.assert_close(loss(poisoned, heatmaps, weights), whole)
    leaf = outputs.clone().requires_grad_()
    value = loss(leaf, strange, weights)
    value.backward()
    torch.testing.assert_close(value, whole)
    assert torch.isfinite(leaf.grad).all()  # unlabelled targets that are NaN reach no weight of the network
    assert (leaf.grad[:, :, 2:] == 0).all()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_nothing_labelled_is_zero_with_a_graph(loss):
    outputs, heatmaps, weights = sample(3)
    value = loss(outputs.requires_grad_(), heatmaps, weights * 0)
    value.backward()
    assert value == 0
    assert (outputs.grad == 0).all()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_stacks_are_summed_and_one_stack_needs_no_axis(loss):
    outputs, heatmaps, weights = sample(4)
    parts = sum(loss(outputs[:, s], heatmaps, weights) for s in range(3))
    torch.testing.assert_close(loss(outputs, heatmaps, weights), parts)


@pytest.mark.fault("open-mmlab/mmpose#200")
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_float32_inside_autocast(loss):
    outputs, heatmaps, weights = sample(5, dtype=torch.float32)
    expected = loss(outputs, heatmaps, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(outputs, heatmaps, weights)
        half = loss(outputs.to(torch.bfloat16), heatmaps, weights)
    assert inside.dtype == half.dtype == torch.float32
    torch.testing.assert_close(inside, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(half, expected, rtol=0.05, atol=1e-2)


def test_float16_maps_do_not_overflow():
    outputs = torch.full((1, 1, 64, 64), 200.0, dtype=torch.float16)
    assert float(pose.masked_mse(outputs, torch.zeros(1, 1, 64, 64), torch.ones(1, 1))) == 40_000


@pytest.mark.fault("leoxiaobin/deep-high-resolution-net.pytorch#248")
def test_ohkm_works_at_batch_one_without_weights_of_its_own():
    outputs, heatmaps, _ = sample(6, n=1, s=1)
    found = pose.ohkm_mse(outputs, heatmaps, torch.ones(1, 4), hardest=8)
    torch.testing.assert_close(found, pose.masked_mse(outputs, heatmaps, torch.ones(1, 4)))


def test_loss_uses_no_loop_over_joints_images_or_stacks():
    from torch.profiler import profile

    def calls(count):
        outputs, heatmaps, weights = sample(n=count, s=count, j=count)
        with profile() as recorded:
            pose.masked_mse(outputs.requires_grad_(), heatmaps, weights).backward()
        return sum(event.count for event in recorded.key_averages() if event.key.startswith("aten::"))

    calls(1)
    assert calls(2) == calls(5)


def test_arguments_are_left_alone_and_errors_named():
    outputs, heatmaps, weights = sample(7)
    copies = [v.clone() for v in (outputs, heatmaps, weights)]
    for loss in LOSSES.values():
        loss(outputs, heatmaps, weights)
    assert all(torch.equal(a, b) for a, b in zip(copies, (outputs, heatmaps, weights), strict=True))
    with pytest.raises(ValueError, match="outputs"):
        pose.masked_mse(outputs[..., 1:], heatmaps, weights)
    with pytest.raises(ValueError, match="outputs"):
        pose.masked_mse(outputs[None], heatmaps, weights)
    with pytest.raises(ValueError, match="weights"):
        pose.masked_mse(outputs, heatmaps, weights[:1])
    with pytest.raises(ValueError, match="normalize"):
        pose.masked_mse(outputs, heatmaps, weights, normalize="none")
    with pytest.raises(TypeError, match="floating"):
        pose.masked_mse(outputs.long(), heatmaps, weights)
    with pytest.raises(TypeError, match="weights"):
        pose.masked_mse(outputs, heatmaps, weights.numpy())
    with pytest.raises(ValueError, match="hardest"):
        pose.ohkm_mse(outputs, heatmaps, weights, hardest=0)
    with pytest.raises(ValueError, match="alpha"):
        pose.adaptive_wing(outputs, heatmaps, weights, alpha=1.9)
    with pytest.raises(ValueError, match="rescue"):
        pose.js_divergence(outputs, heatmaps, weights, rescue=2)
    with pytest.raises(ValueError, match="kind"):
        pose.coordinate_loss(outputs[:, 0, :, :2, 0], heatmaps[:, :, :2, 0], weights, kind="l3")
    with pytest.raises(ValueError, match="outputs"):
        pose.coordinate_loss(outputs, heatmaps, weights)


@pytest.mark.parametrize("name", ["masked_mse", "ohkm_mse", "adaptive_wing", "kl_divergence", "js_divergence"])
def test_weights_below_zero_and_nan_count_as_unlabelled(name):
    loss = getattr(pose, name)
    outputs, targets = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    wanted = loss(outputs, targets, torch.tensor([[1.0, 0, 0], [0, 2.0, 0]]))
    found = loss(outputs, targets, torch.tensor([[1.0, -1.0, -7.0], [math.nan, 2.0, -1.0]]))
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", ["masked_mse", "ohkm_mse", "adaptive_wing", "kl_divergence", "js_divergence"])
def test_no_joints_are_a_loss_of_zero(name):
    nothing = torch.zeros(2, 0, 4, 5, requires_grad=True)
    assert getattr(pose, name)(nothing, nothing.detach(), torch.zeros(2, 0)) == 0
