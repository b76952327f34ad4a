from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkit.gan.metrics import frechet_distance, kernel_distance
from reference import gan_metrics as slow

seeds = st.integers(0, 10_000)


def features(n, d, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + shift


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 12), seeds)
def test_frechet_is_the_papers_formula_also_for_few_rows(n, m, d, seed):
    a, b = features(n, d, seed), features(m, d, seed + 1, 0.5)
    scale = 1 + np.trace(np.atleast_2d(np.cov(a, rowvar=False)))
    assert frechet_distance(a, b) == pytest.approx(slow.frechet(a, b), rel=1e-6, abs=1e-5 * scale)


@given(st.integers(2, 30), st.integers(1, 9), seeds)
def test_frechet_of_identical_sets_is_zero_and_it_is_symmetric(n, d, seed):
    a, b = features(n, d, seed), features(n + 3, d, seed + 1)
    scale = float(np.square(a).sum())
    assert frechet_distance(a, a) <= 1e-9 * scale
    assert frechet_distance(a, a[::-1]) <= 1e-9 * scale
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6, abs=1e-9 * scale)


def test_frechet_of_known_normals():
    # Equal covariances: only the means count. Scaled ones: sum of (s - 1)^2 variances.
    a = features(200, 5, 0)
    assert frechet_distance(a, a + 2) == pytest.approx(20)
    assert frechet_distance(a - a.mean(0), 3 * (a - a.mean(0))) == pytest.approx(4 * np.trace(np.cov(a, rowvar=False)))


@pytest.mark.fault("mseitzer/pytorch-fid#100")
@pytest.mark.fault("Project-MONAI/MONAI#9076")
def test_frechet_of_fewer_rows_than_features_is_real_and_exact():
    a, b = features(20, 64, 0), features(30, 64, 1)
    value = frechet_distance(a, b)
    assert np.isfinite(value)
    assert frechet_distance(a, a) < 1e-8 * value
    # Zero columns change nothing.
    wide = [np.concatenate([x, np.zeros((len(x), 40))], axis=1) for x in (a, b)]
    assert frechet_distance(*wide) == pytest.approx(value, rel=1e-9)


def test_frechet_equals_the_root_of_scipy():
    linalg = pytest.importorskip("scipy.linalg")
    a, b = features(300, 24, 0), features(400, 24, 1, 0.1)
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.trace(np.real(linalg.sqrtm(ca @ cb)))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 5), st.integers(1, 4), seeds)
def test_kernel_is_the_papers_estimator(n, m, d, degree, seed):
    a, b = features(n, d, seed), features(m, d, seed + 1)
    ours = kernel_distance(a, b, degree=degree, chunk=5)
    assert ours.value == pytest.approx(slow.kernel(a, b, degree), rel=1e-7, abs=1e-7 * np.abs(a).max() ** (2 * degree))
    assert ours.spread == 0


def test_kernel_is_unbiased():
    rng = np.random.default_rng(0)
    values = [kernel_distance(rng.normal(size=(20, 4)), rng.normal(size=(20, 4))).value for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20


def test_kernel_of_identical_sets_is_hardly_below_zero():
    a = features(100, 6, 0)
    assert kernel_distance(a, a).value <= 0
    assert kernel_distance(a, a).value > -0.2 * kernel_distance(a, a + 5).value


def test_subsets_average_and_advance_a_passed_generator():
    a, b = features(60, 4, 0), features(70, 4, 1)
    rng = np.random.default_rng(5)
    one, two = (kernel_distance(a, b, subsets=20, subset_size=30, rng=rng) for _ in range(2))
    assert one != two
    assert one.spread > 0
    assert kernel_distance(a, b, subsets=3, subset_size=30) == kernel_distance(a, b, subsets=3, subset_size=30)
    whole = kernel_distance(a, b[:60], subsets=1, subset_size=60)
    assert whole.value == pytest.approx(kernel_distance(a, b[:60]).value)


def test_tensors_and_float32_and_integers_do():
    a, b = features(50, 4, 0), features(50, 4, 1)
    exact = frechet_distance(a, b)
    assert frechet_distance(torch.from_numpy(a), torch.from_numpy(b).requires_grad_()) == exact
    assert frechet_distance(a.astype(np.float32), b.astype(np.float32)) == pytest.approx(exact, rel=1e-4)
    assert frechet_distance(np.arange(6).reshape(3, 2), np.arange(6).reshape(3, 2)) == pytest.approx(0, abs=1e-9)
    assert kernel_distance(a.astype(np.float32), b).value == pytest.approx(kernel_distance(a, b).value, rel=1e-4)


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(
    ("real", "fake", "says"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), "`real` must hold at least 2"),
        (np.zeros((5, 3)), np.zeros((5, 4)), "one length"),
        (np.zeros(5), np.zeros((5, 1)), r"`real` must have shape \(N, D\)"),
        (np.zeros((5, 0)), np.zeros((5, 0)), r"\(N, D\)"),
        (np.zeros((5, 2)), np.array([[0, np.nan]] * 3), "`fake` must be finite"),
        (np.array([["a"]] * 3), np.zeros((3, 1)), "numbers"),
    ],
)
def test_bad_features_are_named(measure, real, fake, says):
    with pytest.raises((ValueError, TypeError), match=says):
        measure(real, fake)


def test_arguments_of_the_kernel_are_checked():
    a = features(5, 2, 0)
    for name, value in (("degree", 0), ("subsets", 0), ("subset_size", 1), ("chunk", 0), ("gamma", np.inf)):
        with pytest.raises(ValueError, match=name):
            kernel_distance(a, a, **{name: value})


class Given(torch.nn.Module):
    """Stands for a network: hands the features on, under the attribute torchmetrics looks for."""

    num_features = 16

    def forward(self, images):
        return images.reshape(len(images), -1)[:, :16].double()


def test_torchmetrics_agrees_on_the_same_features():
    fid = pytest.importorskip("torchmetrics.image.fid")
    kid = pytest.importorskip("torchmetrics.image.kid")
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.normal(size=(n, 1, 4, 4)) + s) for n, s in ((120, 0), (120, 0.3)))
    pairs = [x.reshape(len(x), -1).numpy() for x in (a, b)]
    metric = fid.FrechetInceptionDistance(feature=Given(), normalize=True, input_img_size=(1, 4, 4))
    metric = metric.set_dtype(torch.float64)
    metric.update(a, real=True)
    metric.update(b, real=False)
    assert frechet_distance(*(np.float64(p) for p in pairs)) == pytest.approx(float(metric.compute()), rel=1e-4)
    with pytest.warns(UserWarning, match="buffer"):
        metric = kid.KernelInceptionDistance(feature=Given(), subsets=1, subset_size=120, normalize=True)
    metric.update(a, real=True)
    metric.update(b, real=False)
    assert kernel_distance(*pairs).value == pytest.approx(float(metric.compute()[0]), rel=1e-4)


def test_torch_fidelity_agrees_on_the_same_features():
    """In an environment of its own, as torch-fidelity needs torchvision."""
    pytest.importorskip("torch_fidelity")
    from torch_fidelity import metric_fid, metric_kid, metric_prc

    from cvkit.gan.metrics import precision_recall

    a, b = features(200, 16, 0), features(200, 16, 1, 0.1)
    first, second = (torch.from_numpy(np.float64(x)) for x in (a, b))
    statistics = [metric_fid.fid_features_to_statistics(x) for x in (first, second)]
    expected = metric_fid.fid_statistics_to_metric(*statistics, False)
    assert frechet_distance(a, b) == pytest.approx(expected["frechet_inception_distance"], rel=1e-4)
    expected = metric_kid.kid_features_to_metric(first, second, kid_subsets=1, kid_subset_size=200, verbose=False)
    assert kernel_distance(a, b).value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-4)
    expected = metric_prc.prc_features_to_metric(
        first, second, prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=False, verbose=False
    )
    ours = precision_recall(b, a, k=3)  # their first set is the generated one
    assert (ours.precision, ours.recall) == pytest.approx((expected["precision"], expected["recall"]), rel=1e-4)
