import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.pose import COCO17, MPII, PCK, PCKCurve, PCKh
from reference import pose_metrics


def sample(seed, count=5, joints=4):
    rng = np.random.default_rng(seed)
    labels = rng.uniform(0, 100, (count, joints, 2))
    predicted = labels + rng.normal(0, 8, labels.shape)
    return predicted, labels, rng.integers(0, 3, (count, joints)), rng.uniform(50, 120, count)


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(["count", "joint"]))
def test_agrees_with_loops(seed, strict, mean):
    predicted, labels, seen, lengths = sample(seed)
    hits, counts = pose_metrics.pck(predicted, labels, seen, lengths, 0.1, strict)
    metric = PCK(0.1, mean=mean, strict=strict)
    metric.update(predicted, labels, seen, normalizer=lengths)
    found = metric.compute()
    assert found.counts.tolist() == counts
    if sum(counts):
        shares = [h / c for h, c in zip(hits, counts, strict=True) if c]
        assert found.mean == pytest.approx(sum(hits) / sum(counts) if mean == "count" else sum(shares) / len(shares))
    else:
        assert np.isnan(found.mean)


@pytest.mark.fault("bearpaw/pytorch-pose#53")
@pytest.mark.fault("bearpaw/pytorch-pose#101")
@given(st.integers(0, 10**6), st.integers(1, 7))
def test_batches_and_merging_make_no_difference(seed, size):
    predicted, labels, seen, lengths = sample(seed, count=9)
    whole, parts = PCK(), PCK()
    whole.update(predicted, labels, seen, normalizer=lengths)
    for start in range(0, 9, size):  # the last one is short
        part = PCK()
        chosen = slice(start, start + size)
        part.update(predicted[chosen], labels[chosen], seen[chosen], normalizer=lengths[chosen])
        parts = part.merge(parts)
    for a, b in zip(whole.compute(), parts.compute(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.fault("open-mmlab/mmpose#328")
def test_three_joints_by_hand_and_the_edge_itself():
    labels, predicted = np.zeros((1, 3, 2)), np.array([[[3, 4], [0, 10], [0, 10.5]]], float)
    loose, strict = PCK(0.1), PCK(0.1, strict=True)
    for metric in (loose, strict):
        metric.update(predicted, labels, normalizer=100.0)
    assert loose.compute().mean == 2 / 3
    assert strict.compute().mean == 1 / 3


def test_nothing_labelled_and_no_samples():
    metric = PCK()
    assert np.isnan(metric.compute().mean)
    metric.update(np.zeros((2, 3, 2)), np.zeros((2, 3, 2)), np.zeros((2, 3)), normalizer=np.array([np.nan, 1]))
    assert np.isnan(metric.compute().mean)
    assert np.isnan(metric.compute().per_joint).all()


def mpii(offsets):
    labels = np.zeros((1, 16, 2))
    predicted = labels.copy()
    predicted[0, :, 0] = offsets
    return predicted, labels


@pytest.mark.fault("xingyizhou/pytorch-pose-hg-3d#18")
@pytest.mark.fault("open-mmlab/mmpose#93")
@pytest.mark.fault("leoxiaobin/deep-high-resolution-net.pytorch#78")
@pytest.mark.fault("bearpaw/pytorch-pose#74")
def test_three_definitions_of_the_mean():
    # Head box 30 x 40: size 0.6 * 50 = 30, half of it 15. Pelvis and thorax are wrong, an ankle is on the edge.
    offsets = [15.0, *[0.0] * 5, 99.0, 99.0, *[0.0] * 7, 99.0]
    seen = np.ones((2, 16))
    seen[1, 1:] = 0  # in the second image only the right ankle is labelled, and missed
    predicted, labels = (np.concatenate([a, a]) for a in mpii(offsets))
    predicted[1, 0, 0] = 50
    expected = {
        "official": 13 / 15,  # 14 joints and one more label; the edge is a hit
        "per-joint": (0 + 12 * 1 + 0) / 14,  # right ankle: neither the edge (strict) nor the miss
        "all-joints": 12 / 17,
    }
    for definition, value in expected.items():
        metric = PCKh(definition=definition)
        for i in range(2):
            metric.update(predicted[i : i + 1], labels[i : i + 1], seen[i : i + 1], heads=[[0, 0, 30, 40]])
        found = metric.compute()
        assert found.mean == pytest.approx(value), definition
        assert found.counts[0] == 2


def test_pckh_merges_and_needs_sixteen_joints():
    first, second = PCKh(), PCKh()
    for metric, offset in ((first, 0.0), (second, 99.0)):
        metric.update(*mpii([offset] * 16), heads=[[0, 0, 30, 40]])
    assert first.merge(second).compute().mean == 0.5
    assert np.isnan(PCKh().compute().mean)
    with pytest.raises(ValueError, match="definition"):
        first.merge(PCKh(definition="per-joint"))
    with pytest.raises(ValueError, match="16"):
        first.update(np.zeros((1, 17, 2)), np.zeros((1, 17, 2)), heads=[[0, 0, 1, 1]])


def test_head_boxes_may_be_tensors_that_want_gradients():
    metric, plain = PCKh(), PCKh()
    predicted, labels = mpii([0.0, 14.0, 16.0] * 5 + [0.0])
    plain.update(predicted, labels, heads=[[0, 0, 30, 40]])
    tensors = [torch.tensor(a, requires_grad=True) for a in (predicted, labels, [[0.0, 0.0, 30.0, 40.0]])]
    metric.update(*tensors[:2], torch.ones(1, 16), heads=tensors[2])
    assert metric.compute().mean == plain.compute().mean


@given(st.integers(0, 10**6))
def test_curve_is_pck_at_each_threshold(seed):
    predicted, labels, seen, lengths = sample(seed)
    seen[0, 0] = 1
    curve = PCKCurve()
    curve.update(predicted, labels, seen, normalizer=lengths)
    assert len(curve.thresholds) == 51
    for index in (0, 10, 50):
        metric = PCK(curve.thresholds[index])
        metric.update(predicted, labels, seen, normalizer=lengths)
        assert curve.curve[index] == metric.compute().mean
    assert (np.diff(curve.curve) >= 0).all()


@pytest.mark.fault("leoxiaobin/deep-high-resolution-net.pytorch#167")
def test_both_published_areas():
    labels = np.zeros((1, 2, 2))
    predicted = np.array([[[3.0, 0], [1e9, 0]]])
    official, pixels = PCKCurve("pckh"), PCKCurve("pixels")
    official.update(predicted, labels, normalizer=30.0)  # one joint at 0.1, one never
    pixels.update(predicted, labels, normalizer=30.0)
    assert official.thresholds[10] == 0.1  # index 10 is 0.1, not 11
    assert official.auc == pytest.approx(0.5 * 41 / 51)
    assert pixels.auc == pytest.approx(0.5 * 18 / 20)
    assert np.isnan(PCKCurve().auc)


def test_curves_merge_and_errors_are_named():
    predicted, labels, seen, lengths = sample(0)
    first, second, whole = PCKCurve([0, 0.1, 0.2]), PCKCurve([0, 0.1, 0.2]), PCKCurve([0, 0.1, 0.2])
    first.update(predicted[:2], labels[:2], seen[:2], normalizer=lengths[:2])
    second.update(predicted[2:], labels[2:], seen[2:], normalizer=lengths[2:])
    whole.update(predicted, labels, seen, normalizer=lengths)
    assert first.merge(second).curve.tolist() == whole.curve.tolist()
    with pytest.raises(ValueError, match="thresholds"):
        first.merge(PCKCurve())
    with pytest.raises(ValueError, match="rising"):
        PCKCurve([0.2, 0.1])
    with pytest.raises(ValueError, match="rising"):
        PCKCurve([])
    with pytest.raises(ValueError, match="thresholds"):
        PCKCurve("best")
    with pytest.raises(ValueError, match="mean"):
        PCK(mean="median")
    with pytest.raises(ValueError, match="same"):
        PCK(0.1).merge(PCK(0.2))
    metric = PCK()
    metric.update(np.zeros((1, 3, 2)), np.zeros((1, 3, 2)), normalizer=1.0)
    with pytest.raises(ValueError, match="3 joints"):
        metric.update(np.zeros((1, 4, 2)), np.zeros((1, 4, 2)), normalizer=1.0)


@pytest.mark.fault("leoxiaobin/deep-high-resolution-net.pytorch#204")
@pytest.mark.fault("microsoft/human-pose-estimation.pytorch#144")
def test_x_and_y_count_alike_on_unequal_sides():
    labels = np.zeros((1, 1, 2))
    across, down = PCK(0.1), PCK(0.1)
    across.update(labels + np.array([9.0, 0.0]), labels, normalizer=90.0)
    down.update(labels + np.array([0.0, 9.0]), labels, normalizer=90.0)
    assert across.compute().mean == down.compute().mean == 1


def test_parts_of_the_body_are_the_mean_of_left_and_right():
    metric = PCKh()
    labels = np.zeros((1, 16, 2))
    predicted = np.zeros((1, 16, 2))
    predicted[0, [0, 10, 15]] = 1000.0  # right ankle, both wrists
    seen = np.ones((1, 16))
    seen[0, [1, 4, 5]] = 0  # both knees, left ankle
    metric.update(predicted, labels, seen, heads=[[0, 0, 12, 16]])
    parts = metric.compute().by_group(MPII)
    assert parts["ankle"] == 0
    assert np.isnan(parts["knee"])
    assert parts["wrist"] == 0
    assert parts["elbow"] == 1
    assert list(parts)[:7] == ["head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
    with pytest.raises(ValueError, match="`skeleton` must have 16 joints; got 17"):
        metric.compute().by_group(COCO17)
