from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkit.gan.metrics import density_coverage, memorization, precision_recall
from reference import gan_metrics as slow


def features(n, d, seed, shift=0.0):
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


@settings(max_examples=25)
@given(
    st.integers(5, 25), st.integers(5, 25), st.integers(1, 6), st.integers(1, 4), st.floats(0, 3), st.integers(0, 999)
)
def test_all_four_are_what_the_papers_say(n, m, d, k, shift, seed):
    a, b = features(n, d, seed), features(m, d, seed + 1, shift)
    pr, dc = precision_recall(a, b, k=k, chunk=7), density_coverage(a, b, k=k, chunk=7)
    assert pr.precision == pytest.approx(slow.precision(a, b, k))
    assert pr.recall == pytest.approx(slow.precision(b, a, k))
    assert dc.density == pytest.approx(slow.density(a, b, k))
    assert dc.coverage == pytest.approx(slow.coverage(a, b, k))


@given(st.integers(6, 40), st.integers(1, 5), st.integers(0, 99), st.sampled_from([np.float32, np.float64]))
def test_identical_sets_score_perfectly(n, d, seed, dtype):
    a = features(n, d, seed, 50).astype(dtype)
    assert precision_recall(a, a) == (1, 1)
    assert density_coverage(a, a).coverage == 1
    assert density_coverage(a, a).density == pytest.approx(1)
    assert precision_recall(a, a[::-1]) == (1, 1)


def test_identical_rows_in_identical_sets_score_perfectly():
    a = np.repeat(features(2, 3, 0), 10, axis=0)
    assert precision_recall(a, a) == (1, 1)
    assert density_coverage(a, a).coverage == 1


def test_sets_far_apart_score_nothing():
    a, b = features(50, 3, 0), features(50, 3, 1, 1000)
    assert precision_recall(a, b) == (0, 0)
    assert density_coverage(a, b) == (0, 0)


def test_collapse_shows_in_recall_and_coverage_and_not_in_precision():
    a = features(200, 4, 0)
    collapsed = np.repeat(a[:1], 200, axis=0) + 1e-3 * features(200, 4, 1)
    assert precision_recall(a, collapsed).precision == 1
    assert precision_recall(a, collapsed).recall < 0.05
    assert density_coverage(a, collapsed).coverage < 0.15


@pytest.mark.fault("POSTECH-CVLab/PyTorch-StudioGAN#136")
def test_chunks_and_progress_change_nothing(capsys):
    a, b = features(83, 5, 0), features(71, 5, 1)
    assert precision_recall(a, b, chunk=1) == precision_recall(a, b, progress=True)
    assert density_coverage(a, b, chunk=13) == density_coverage(a, b, chunk=1000, progress=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_prdc_agrees_on_the_same_features(shift):
    pytest.importorskip("sklearn")
    prdc = pytest.importorskip("prdc")
    a, b = features(150, 8, 0), features(150, 8, 1, shift)
    theirs = prdc.compute_prdc(a, b, nearest_k=5)
    ours = precision_recall(a, b, k=5)._asdict() | density_coverage(a, b, k=5)._asdict()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(float(value), rel=1e-4)


def test_memorization_tells_copies_from_news():
    rng = np.random.default_rng(0)
    train, held_out, new = (rng.normal(size=(n, 6)) for n in (400, 200, 200))
    fresh = memorization(train, new, held_out)
    assert fresh.ratio == pytest.approx(1, abs=0.15)
    assert fresh.copies < 0.05
    near = memorization(train, train[:100] + 0.01, held_out)
    assert near.ratio < 0.1
    assert near.copies == 1
    assert memorization(train, train[:100], held_out, chunk=17).ratio == 0


def test_memorization_needs_reals_that_were_not_trained_on():
    train = features(50, 3, 0)
    with pytest.raises(ValueError, match="held_out"):
        memorization(train, train, train)


@pytest.mark.parametrize("measure", [precision_recall, density_coverage])
def test_too_few_rows_are_refused(measure):
    with pytest.raises(ValueError, match="`real` must hold more than k = 3"):
        measure(features(3, 2, 0), features(9, 2, 1), k=3)
    with pytest.raises(ValueError, match="k"):
        measure(features(9, 2, 0), features(9, 2, 1), k=0)
    with pytest.raises(ValueError, match="chunk"):
        measure(features(9, 2, 0), features(9, 2, 1), chunk=0)
    with pytest.raises(ValueError, match="`fake`"):
        measure(features(9, 2, 0), features(0, 2, 1))
