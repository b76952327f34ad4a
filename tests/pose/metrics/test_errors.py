import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvkit.pose import EPE, NME, PCK, CocoAP, PCKCurve, PCKh
from reference import pose_metrics


def sample(seed, count=6):
    rng = np.random.default_rng(seed)
    labels = rng.uniform(0, 100, (count, 68, 2))
    predicted = labels + rng.normal(0, 5, labels.shape)
    seen = rng.integers(0, 2, (count, 68))
    seen[:, [36, 45]] = 1
    return predicted, labels, seen


@given(st.integers(0, 10**6))
def test_agrees_with_loops(seed):
    predicted, labels, seen = sample(seed)
    lengths = np.hypot(*(labels[:, 36] - labels[:, 45]).T)
    expected = pose_metrics.nme(predicted, labels, seen, lengths)
    metric = NME()
    metric.update(predicted, labels, seen)
    np.testing.assert_allclose(metric.errors, expected, rtol=1e-12)
    found = metric.compute()
    assert found.nme == pytest.approx(sum(expected) / len(expected))
    assert found.failure_rate == sum(e > 0.1 for e in expected) / len(expected)
    grid = np.linspace(0, 0.1, 100_001)
    assert found.auc == pytest.approx(metric.ced(grid).mean(), abs=1e-4)  # the exact area against a fine grid


@given(st.integers(0, 10**6), st.permutations(range(6)))
def test_order_batches_and_merging_make_no_difference(seed, order):
    predicted, labels, seen = sample(seed)
    whole = NME()
    whole.update(predicted, labels, seen)
    merged, epe_whole, epe = NME(), EPE(), EPE()
    epe_whole.update(predicted, labels, seen)
    for i in order:
        part, one = NME(), EPE()
        part.update(predicted[i : i + 1], labels[i : i + 1], seen[i : i + 1])
        one.update(predicted[i : i + 1], labels[i : i + 1], seen[i : i + 1])
        merged, epe = merged.merge(part), one.merge(epe)
    assert merged.compute() == whole.compute()
    assert epe.compute() == epe_whole.compute()


def test_by_hand_with_failures_on_the_edge():
    labels = np.zeros((3, 2, 2))
    predicted = labels.copy()
    predicted[0] += [[1.0, 0.0], [3.0, 0.0]]  # 0.02
    predicted[1] += [10.0, 0.0]  # 0.1: not above the threshold
    predicted[2] += [20.0, 0.0]  # 0.2
    metric = NME()
    metric.update(predicted, labels, lengths=[100.0] * 3)
    found = metric.compute()
    assert found.nme == pytest.approx((0.02 + 0.1 + 0.2) / 3)
    assert found.failure_rate == 1 / 3
    assert found.auc == pytest.approx((0.8 + 0 + 0) / 3)
    assert metric.ced([0.0, 0.02, 0.15, 1.0]).tolist() == [0, 1 / 3, 2 / 3, 1]


def test_images_without_labels_do_not_count_and_missing_predictions_do():
    labels = np.zeros((2, 2, 2))
    metric = NME("box")
    metric.update(labels, labels, [[0, 0], [0, 0]], boxes=[[0, 0, 1, 1]] * 2)
    assert metric.compute().images == 0
    assert math.isnan(metric.compute().nme)
    assert np.isnan(metric.ced([0.1])).all()
    predicted = labels.copy()
    predicted[0, 0] = np.nan
    metric.update(predicted, labels, boxes=[[0, 0, 10, 10]] * 2)
    found = metric.compute()
    assert found.nme == math.inf
    assert found.failure_rate == 0.5
    assert found.auc == 0.5


def test_no_loop_over_images_or_joints():
    def calls(count):
        labels = np.random.default_rng(0).uniform(0, 9, (count, count, 2))
        metrics = [NME("box"), EPE(), PCK(0.1), PCKCurve()]
        counted = 0

        def count_one(*_):
            nonlocal counted
            counted += 1

        sys.setprofile(count_one)
        try:
            for metric in metrics[:2]:
                metric.update(labels + 1, labels)
            for metric in metrics[2:]:
                metric.update(labels + 1, labels, normalizer=5.0)
        finally:
            sys.setprofile(None)
        return counted

    calls(3)
    assert calls(3) == calls(40)


def test_epe():
    epe = EPE()
    assert math.isnan(epe.compute())
    epe.update([[[3, 4], [1, 0]]], [[[0, 0], [np.nan, 0]]])
    assert epe.compute() == 5


def test_errors_are_named():
    with pytest.raises(ValueError, match="threshold"):
        NME(threshold=0)
    with pytest.raises(ValueError, match="`normalizer` must be one of"):
        NME("nose").update(np.zeros((1, 68, 2)), np.zeros((1, 68, 2)))
    with pytest.raises(ValueError, match="same"):
        NME().merge(NME("box"))


@pytest.mark.parametrize("metric", [PCK(), PCKh(), PCKCurve(), NME(), EPE(), CocoAP()], ids=lambda m: type(m).__name__)
def test_only_accumulators_of_one_kind_merge(metric):
    other = EPE() if not isinstance(metric, EPE) else NME()
    with pytest.raises(TypeError, match=f"`other` must be {type(metric).__name__}"):
        metric.merge(other)


@pytest.mark.parametrize("normalizer", [[1.0, 2.0], [[1.0], [1.0], [1.0]], "head", None])
def test_reference_lengths_of_a_wrong_shape_are_named(normalizer):
    labels = np.zeros((3, 4, 2))
    with pytest.raises(ValueError, match="`normalizer` must be"):
        PCK().update(labels, labels, normalizer=normalizer)
