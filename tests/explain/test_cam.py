"""The CAM family on tensors: against slow oracles in float64, by algebra, at the edges, by gradcheck."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from cvkit.explain import cam
from reference import explain_slow as slow

SHAPES = [(3, 4, 5), (2, 4, 3, 5), (2, 3, 2, 3, 4), (1, 1, 1, 1), (1, 6, 1, 7), (2, 5, 6, 1)]
PAIRS = ["gradcam", "gradcam_plus_plus", "xgradcam", "hirescam", "elementwise", "layercam"]
SINGLES = ["eigencam", "fem"]

shapes = st.lists(st.integers(1, 5), min_size=3, max_size=5).map(tuple)
seeds = st.integers(0, 2**31 - 1)


def draw(shape, seed, *, signed=False):
    """Activations (not negative, unless signed, some exactly 0) and gradients, float64."""
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(shape, generator=generator, dtype=torch.float64)
    g = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (A if signed else A.relu()), g


def loop(function, *tensors, **options):
    """Apply a slow oracle sample by sample."""
    return np.stack([function(*parts, **options) for parts in zip(*(t.numpy() for t in tensors), strict=True)])


def close(a, b, tolerance=1e-10):
    scale = max(np.abs(np.asarray(b)).max(initial=0.0), 1e-12)
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=tolerance * scale)


@given(shapes, seeds, st.booleans())
@example((2, 3, 1, 1), 0, False)
@pytest.mark.parametrize("name", PAIRS)
def test_equals_the_paper_written_out(name, shape, seed, signed):
    A, g = draw(shape, seed, signed=signed)
    close(getattr(cam, name)(A, g), loop(getattr(slow, name), A, g))


@given(shapes, seeds)
def test_smooth_gradcam_plus_plus_equals_the_paper_written_out(shape, seed):
    A, _ = draw(shape, seed)
    gradients = torch.stack([draw(shape, seed + i)[1] for i in range(3)])
    expected = np.stack([slow.smooth_gradcam_plus_plus(A[n].numpy(), gradients[:, n].numpy()) for n in range(shape[0])])
    close(cam.smooth_gradcam_plus_plus(A, gradients), expected)


@given(shapes, seeds, st.booleans())
def test_eigencam_equals_a_whole_decomposition(shape, seed, center):
    A, _ = draw(shape, seed, signed=True)
    for n in range(shape[0]):
        X = A[n].flatten(1).T.numpy()
        X = X - X.mean(0) if center else X
        values = np.linalg.svd(X, compute_uv=False)
        if len(values) > 1 and values[0] - values[1] < 1e-3 * values[0]:
            continue  # two directions of the same size: the first is not defined
        expected = slow.eigencam(A[n].numpy(), center)
        close(cam.eigencam(A[n : n + 1], center=center)[0], expected, 1e-7 if values[0] > 1e-9 else 1e3)


@given(shapes, seeds)
def test_eigengradcam_is_eigencam_of_the_product(shape, seed):
    A, g = draw(shape, seed)
    close(cam.eigengradcam(A, g), cam.eigencam(A * g))
    close(cam.eigengradcam(A, g, magnitude=True), cam.eigencam(A * g.abs()))


@given(st.lists(st.integers(1, 4), min_size=3, max_size=4).map(tuple), seeds)
@pytest.mark.parametrize("kernel", ["sigmoid", "rbf", "linear"])
def test_kpcacam_equals_kernel_pca_written_out(kernel, shape, seed):
    A, _ = draw(shape, seed, signed=True)
    for n in range(shape[0]):
        expected, values = slow.kpcacam(A[n].numpy(), kernel, 0.3, 0.7)
        if values[-1] < 1e-6 or (len(values) > 1 and values[-1] - values[-2] < 1e-3 * values[-1]):
            continue
        mean = A[n].mean(0).numpy() - A[n].mean(0).numpy().mean()
        if abs((mean * expected).sum()) < 1e-6:
            continue  # the sign hangs on rounding
        close(cam.kpcacam(A[n : n + 1], kernel=kernel, gamma=0.3, offset=0.7)[0], expected, 1e-6)


@given(shapes, seeds, st.sampled_from([0.0, 1.0, 2.0]))
def test_fem_equals_the_rule_written_out(shape, seed, k):
    A, _ = draw(shape, seed)
    if k == 0.0 and A[0, 0].numel() == 1:
        return
    close(cam.fem(A, k=k), loop(slow.fem, A, k=k))


@given(shapes, seeds, st.integers(1, 6))
def test_segxrescam_equals_windows_written_out(shape, seed, window):
    A, g = draw(shape, seed)
    close(cam.segxrescam(A, g, window=window), loop(slow.segxrescam, A, g, window=window))


@given(shapes, seeds)
def test_segxrescam_lies_between_hirescam_and_gradcam(shape, seed):
    A, g = draw(shape, seed)
    close(cam.segxrescam(A, g, window=1), cam.hirescam(A, g))
    close(cam.segxrescam(A, g, window=max(shape)), cam.gradcam(A, g))


@given(shapes, seeds)
def test_cam_equals_the_paper_written_out(shape, seed):
    A, g = draw(shape, seed)
    weights = g.flatten(2)[..., 0]
    close(cam.cam(A, weights), loop(slow.cam, A, weights))


# ---------------------------------------------------------------- algebra


@given(shapes, seeds)
def test_on_a_constant_gradient_gradcam_hirescam_and_xgradcam_agree(shape, seed):
    A, g = draw(shape, seed)
    A = A + 0.1
    g = g.mean(tuple(range(2, g.dim())), keepdim=True).expand_as(g)
    close(cam.gradcam(A, g), cam.hirescam(A, g))
    close(cam.gradcam(A, g), cam.xgradcam(A, g))
    close(cam.cam(A, g.flatten(2).sum(2)) / A[0, 0].numel(), cam.gradcam(A, g))


@given(shapes, seeds)
def test_xgradcam_keeps_the_sum_of_gradient_times_activation(shape, seed):
    A, g = draw(shape, seed)
    A = A + 0.1
    close(cam.xgradcam(A, g).flatten(1).sum(1), (A * g).flatten(1).sum(1), 1e-9)


@given(shapes, seeds)
@pytest.mark.fault("jacobgil/pytorch-grad-cam#369")
@pytest.mark.fault("1Konny/gradcam_plus_plus-pytorch#2")
def test_gradcam_plus_plus_denominators_need_no_epsilon(shape, seed):
    A, g = draw(shape, seed)
    tiny = g * 1e-30
    raw = cam.gradcam_plus_plus(A, tiny)
    assert torch.isfinite(raw).all()
    close(raw * 2e30, cam.cam(A, g.relu().flatten(2).sum(2)))  # alpha tends to 1/2


@given(shapes, seeds, st.floats(1e-3, 1e3))
@pytest.mark.parametrize("name", ["gradcam", "xgradcam", "hirescam", "elementwise", "layercam"])
def test_scaling_the_score_scales_the_map(name, shape, seed, scale):
    A, g = draw(shape, seed)
    close(getattr(cam, name)(A, g * scale), getattr(cam, name)(A, g) * scale)


@given(shapes, seeds)
@pytest.mark.parametrize("name", PAIRS + SINGLES + ["eigengradcam", "segxrescam"])
def test_order_of_channels_does_not_matter(name, shape, seed):
    A, g = draw(shape, seed)
    order = torch.randperm(shape[1], generator=torch.Generator().manual_seed(seed))
    function = getattr(cam, name)
    a, b = (
        (function(A),) * 1 + (function(A[:, order]),)
        if name in SINGLES
        else (function(A, g), function(A[:, order], g[:, order]))
    )
    if "eigen" in name and not _well_defined(A if name == "eigencam" else A * g):
        return
    close(a, b, 1e-6)


def _well_defined(X):
    values = torch.linalg.svdvals(X.flatten(2))
    along = X.mean(1).flatten(1)
    projection = cam.eigencam(X).flatten(1)
    sign = (projection * along).sum(1).abs() > 1e-6 * projection.norm(dim=1) * along.norm(dim=1)
    return bool((values.shape[1] == 1 or (values[:, 0] > 1.01 * values[:, 1]).all()) and sign.all())


@given(shapes, seeds)
@pytest.mark.parametrize("name", PAIRS + SINGLES)
def test_batch_equals_loop(name, shape, seed):
    A, g = draw(shape, seed)
    arguments = (A,) if name in SINGLES else (A, g)
    whole = getattr(cam, name)(*arguments)
    for n in range(shape[0]):
        close(getattr(cam, name)(*(t[n : n + 1] for t in arguments))[0], whole[n], 1e-9)


@pytest.mark.fault("jacobgil/pytorch-grad-cam#351")
@pytest.mark.fault("jacobgil/pytorch-grad-cam#497")
def test_mirroring_a_volume_mirrors_the_map():
    A, g = draw((2, 4, 3, 5, 7), 3)
    for name in [*PAIRS, "segxrescam"]:
        if name == "segxrescam":
            continue
        for axis in (2, 3, 4):
            close(getattr(cam, name)(A.flip(axis), g.flip(axis)), getattr(cam, name)(A, g).flip(axis - 1))


# ---------------------------------------------------------------- edges


def test_hand_worked_values():
    A = torch.tensor([[[[1.0, 0.0], [2.0, 1.0]], [[0.0, 3.0], [1.0, 0.0]]]])
    g = torch.tensor([[[[1.0, 1.0], [-1.0, 3.0]], [[0.0, -2.0], [2.0, -4.0]]]])
    assert cam.gradcam(A, g).tolist() == [[[1.0, -3.0], [1.0, 1.0]]]
    assert cam.hirescam(A, g).tolist() == [[[1.0, -6.0], [0.0, 3.0]]]
    assert cam.layercam(A, g).tolist() == [[[1.0, 0.0], [2.0, 3.0]]]
    # sums of A are 4 and 4: alpha = 1/(2 + 4 g) where g > 0: 1/6, 1/6, 1/14 and 1/10
    first, second = 1 / 6 + 1 / 6 + 3 / 14, 2 / 10
    expected = [[first, 3 * second], [2 * first + second, first]]
    torch.testing.assert_close(cam.gradcam_plus_plus(A, g), torch.tensor([expected]))
    # sums of g * A: 1 - 2 + 3 = 2 and -6 + 2 = -4
    assert cam.xgradcam(A, g).tolist() == [[[0.5, -3.0], [0.0, 0.5]]]


@pytest.mark.fault("jacobgil/pytorch-grad-cam#42")
def test_channels_that_are_zero_or_cancel_weigh_nothing_in_xgradcam():
    A = torch.tensor([[[0.0, 0.0], [1.0, -1.0], [1.0, 1.0]]])
    g = torch.tensor([[[5.0, 5.0], [1.0, -1.0], [1.0, 2.0]]])
    assert cam.xgradcam(A, g).tolist() == [[1.5, 1.5]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", PAIRS + SINGLES + ["eigengradcam", "kpcacam", "segxrescam"])
def test_half_precision_is_computed_in_float32(name, dtype):
    A, g = (t.to(dtype) for t in draw((2, 3, 4, 5), 0))
    arguments = (A,) if name in {*SINGLES, "kpcacam"} else (A, g)
    raw = getattr(cam, name)(*arguments)
    assert raw.dtype == torch.float32
    torch.testing.assert_close(raw, getattr(cam, name)(*(t.float() for t in arguments)))


@pytest.mark.parametrize("name", PAIRS + SINGLES + ["eigengradcam", "kpcacam", "segxrescam"])
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 1, 1), (1, 1, 1)])
def test_empty_and_single(name, shape):
    A, g = draw(shape, 0)
    raw = getattr(cam, name)(*((A,) if name in {*SINGLES, "kpcacam"} else (A, g)))
    assert raw.shape == (shape[0], *shape[2:])
    assert torch.isfinite(raw).all()


@pytest.mark.parametrize("name", PAIRS + SINGLES + ["eigengradcam", "segxrescam"])
def test_arguments_may_lie_in_memory_in_any_way_and_are_not_changed(name):
    A, g = draw((2, 3, 4, 5), 0)
    turned = [t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0) for t in (A, g)]
    copies = [t.clone() for t in turned]
    arguments = turned[:1] if name in SINGLES else turned
    straight = (A,) if name in SINGLES else (A, g)
    close(getattr(cam, name)(*arguments), getattr(cam, name)(*straight))
    assert all(torch.equal(a, b) for a, b in zip(turned, copies, strict=True))


@pytest.mark.parametrize("name", ["eigencam", "kpcacam", "eigengradcam"])
def test_a_sample_with_nan_leaves_the_others_alone(name):
    A, g = draw((3, 4, 3, 5), 0)
    B = A.clone()
    B[1, 2, 0, 0] = float("nan")
    arguments = (B, g) if name == "eigengradcam" else (B,)
    raw = getattr(cam, name)(*arguments)
    assert raw[1].isnan().all()
    clean = getattr(cam, name)(*((A, g) if name == "eigengradcam" else (A,)))
    close(raw[[0, 2]], clean[[0, 2]], 1e-8)


@pytest.mark.parametrize("name", ["gradcam", "gradcam_plus_plus", "xgradcam", "hirescam", "layercam", "segxrescam"])
def test_maps_can_be_differentiated(name):
    A, g = draw((2, 3, 2, 3), 4)
    A = (A + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(getattr(cam, name), (A, g.requires_grad_()))


def test_eigencam_can_be_differentiated():
    A = (draw((1, 3, 2, 2), 4)[0] + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(cam.eigencam, (A,))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda A, g: cam.gradcam([1], g), TypeError, "`A` must be a tensor"),
        (lambda A, g: cam.gradcam(A, [1]), TypeError, "`g` must be a tensor"),
        (lambda A, g: cam.gradcam(A[0, 0], g), ValueError, "`A` must have shape"),
        (lambda A, g: cam.gradcam(A.long(), g), TypeError, "`A` must be floating"),
        (lambda A, g: cam.gradcam(A, g[:1]), ValueError, "`g` must have the shape of `A`"),
        (cam.cam, ValueError, "`weights` must have shape"),
        (lambda A, g: cam.kpcacam(A, kernel="poly"), ValueError, "`kernel` must be one of"),
        (lambda A, g: cam.kpcacam(A, gamma=0.0), ValueError, "`gamma` must lie in"),
        (lambda A, g: cam.fem(A, k=-1.0), ValueError, "`k` must lie in"),
        (lambda A, g: cam.segxrescam(A, g, window=0), ValueError, "`window` must be at least 1"),
        (cam.smooth_gradcam_plus_plus, ValueError, "`gradients` must have shape"),
        (lambda A, g: cam.segxrescam(A[..., None, None], g[..., None, None]), ValueError, "one to three spatial axes"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(*draw((2, 3, 4, 5), 0))
