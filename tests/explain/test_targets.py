"""Targets: what each computes, what is refused, and that parts of a batch keep theirs."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cvkit.explain import (
    Comparison,
    Contrast,
    DetectedBox,
    EmbeddingSimilarity,
    LogitPlusLogProbability,
    Probability,
    Region,
    Target,
    explain,
)
from cvkit.explain._resolution import resolve_target, select_logits
from reference.explain_models import Net, images, seeded

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [0.5, -1.0, 4.0]])


def test_class_targets_written_out():
    p = LOGITS.softmax(1)
    assert torch.equal(Probability(1)(LOGITS), p[:, 1])
    assert torch.equal(Probability([0, 2])(LOGITS), p[[0, 1], [0, 2]])
    torch.testing.assert_close(LogitPlusLogProbability(2)(LOGITS), (LOGITS + p.log())[:, 2])
    assert Contrast(1, 0, 0.5)(LOGITS).tolist() == [2.5, -1.25]
    assert Comparison(torch.tensor([1, 2]), torch.tensor([[0, 2], [0, 1]]))(LOGITS).tolist() == [1.5, 4.25]


@pytest.mark.parametrize(
    "index",
    [
        1,
        np.int64(1),
        torch.tensor(1),
        torch.tensor([1, 1]),
        [1, 1],
        (1, 1),
        np.array([1, 1]),
        torch.tensor([1, 1], dtype=torch.uint8),
    ],
)
def test_indices_of_every_integer_kind(index):
    resolved = resolve_target(index, LOGITS, None, 2)
    assert resolved.index.tolist() == [1, 1]
    assert resolved.scores(LOGITS, 2).tolist() == [3.0, -1.0]


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (3, ValueError, r"`target` must lie in \[0, 2\]; got 3"),
        (-1, ValueError, r"`target` must lie in \[0, 2\]; got -1"),
        (True, TypeError, "`target` must be a class index"),
        (1.0, TypeError, "`target` must be an integer"),
        ("cat", TypeError, "`target` must be an integer"),
        (torch.tensor([0.5, 1.0]), TypeError, "`target` must hold integers"),
        (torch.tensor([True, False]), TypeError, "`target` must hold integers"),
        (torch.tensor([1]), ValueError, "`target` must have one class for each of the 2 samples"),
        ([0, 1, 2], ValueError, "`target` must have one class for each of the 2 samples"),
        ([0, 5], ValueError, r"`target` must lie in \[0, 2\]; got 5"),
    ],
)
@pytest.mark.fault("jacobgil/pytorch-grad-cam#443")
def test_wrong_indices_are_named(index, error, message):
    with pytest.raises(error, match=message):
        resolve_target(index, LOGITS, None, 2)


def test_the_predicted_class_is_the_default():
    assert resolve_target(None, LOGITS, None, 2).index.tolist() == [1, 2]


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_one_logit_speaks_for_the_predicted_side(shape):
    logits = torch.tensor([1.5, -2.0]).view(shape)
    resolved = resolve_target(None, logits, None, 2)
    assert resolved.index.tolist() == [1, 0]
    assert resolved.scores(logits, 2).tolist() == [1.5, 2.0]
    assert resolve_target(0, logits, None, 2).scores(logits, 2).tolist() == [-1.5, 2.0]
    assert resolve_target([1, 0], logits, None, 2).rows(1, 2).scores(logits[1:], 1).tolist() == [2.0]
    with pytest.raises(ValueError, match=r"`target` must lie in \[0, 1\]; got 2"):
        resolve_target(2, logits, None, 2)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 3), ()])
def test_outputs_that_are_no_class_scores_need_a_function(shape):
    with pytest.raises(ValueError, match="are not class scores"):
        resolve_target(None, torch.zeros(shape), None, 2)
    with pytest.raises(ValueError, match="no classes"):
        resolve_target(None, torch.zeros(2, 0), None, 2)
    with pytest.raises(TypeError, match="holds no floating tensor"):
        resolve_target(1, {"a": 1}, None, 2)


def test_functions_are_checked():
    for function, error, message in (
        (lambda out: out, ValueError, "one score for each of the 2 samples"),
        (lambda out: out.sum(), ValueError, "one score for each of the 2 samples"),
        (lambda out: 3.0, TypeError, r"must return a tensor of shape \(2,\)"),
    ):
        with pytest.raises(error, match=message):
            resolve_target(function, LOGITS, None, 2).scores(LOGITS, 2)


# ---------------------------------------------------------------- segmentation


def test_regions_written_out():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    mask = torch.rand(4, 5, generator=generator) > 0.5
    masks = torch.rand(2, 4, 5, generator=generator)
    expected = torch.stack([logits[n, 1][mask].sum() for n in range(2)])
    torch.testing.assert_close(Region(1, mask)(logits), expected)
    expected = torch.stack([(logits[n, k] * masks[n]).sum() for n, k in enumerate((2, 0))])
    torch.testing.assert_close(Region([2, 0], masks)(logits), expected)
    torch.testing.assert_close(Region([2, 0], masks).rows(1, 2)(logits[1:]), expected[1:])
    torch.testing.assert_close(Region([2, 0], masks).rows(0, 2).rows(1, 2)(logits[1:]), expected[1:])
    torch.testing.assert_close(Region(1, mask).rows(1, 2)(logits[1:]), Region(1, mask)(logits)[1:])
    winners = logits.argmax(1)
    torch.testing.assert_close(Region(1)(logits), torch.stack([logits[n, 1][winners[n] == 1].sum() for n in range(2)]))


def test_regions_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="`mask` must have shape"):
        Region(1, torch.ones(3, 3))(torch.zeros(2, 3, 4, 5))
    with pytest.raises(ValueError, match=r"Region needs logits of shape \(N, K, \*S\)"):
        Region(1)(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="needs logits"):
        Probability(1)(torch.zeros(3))


class Segmenter(nn.Module):
    """Logits a place, through a stride and back."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.mid = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        y = self.head(torch.relu(self.mid(torch.relu(self.down(x)))))
        return {"out": nn.functional.interpolate(y, size=x.shape[2:], mode="bilinear")}


@pytest.mark.parametrize("method", ["gradcam", "segxrescam", "scorecam", "ablationcam", "saliency", "smoothgrad"])
def test_a_region_is_explained_by_every_kind_of_method_and_in_parts(method):
    model, x = seeded(Segmenter(), 2).double(), images(rows=3).double()
    masks = torch.zeros(3, 11, 14, dtype=torch.bool)
    masks[0, :5], masks[1, 5:], masks[2, :, 7:] = True, True, True
    options = {} if method in {"saliency", "smoothgrad"} else {"layer": "mid"}
    whole = explain(model, x, method=method, target=Region([0, 1, 2], masks), **options)
    assert whole.target.tolist() == [0, 1, 2]
    parts = explain(model, x, method=method, target=Region([0, 1, 2], masks), chunk=2, **options)
    torch.testing.assert_close(parts.raw, whole.raw, rtol=0, atol=1e-10 * whole.raw.abs().max().item())
    with pytest.raises(ValueError, match="see `Region`"):
        explain(model, x, method=method, target=1, **options)


# ---------------------------------------------------------------- embeddings and detection


def test_similarity_written_out():
    generator = torch.Generator().manual_seed(0)
    e, r = torch.randn(3, 5, generator=generator), torch.randn(3, 5, generator=generator)
    expected = (e * r).sum(1) / (e.norm(dim=1) * r.norm(dim=1))
    torch.testing.assert_close(EmbeddingSimilarity(r)(e), expected)
    torch.testing.assert_close(EmbeddingSimilarity(r).rows(1, 3)(e[1:]), expected[1:])
    torch.testing.assert_close(EmbeddingSimilarity(r[0]).rows(0, 1)(e[:1]), expected[:1])
    with pytest.raises(ValueError, match="EmbeddingSimilarity needs"):
        EmbeddingSimilarity(r[0, :4])(e)


def test_detections_written_out():
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 2.0], [8.0, 8.0, 9.0, 9.0]])
    found = {"boxes": boxes, "labels": torch.tensor([1, 2, 1]), "scores": torch.tensor([0.9, 0.8, 0.7])}
    box = torch.tensor([0.0, 0.0, 4.0, 4.0])
    torch.testing.assert_close(DetectedBox(box)([found]), torch.tensor([0.9 + 1.0 + 0.8 + 0.5]))
    torch.testing.assert_close(DetectedBox(box, 1)([found]), torch.tensor([1.9]))
    assert DetectedBox(box, 3)([found]).tolist() == [0.0]
    each = DetectedBox(torch.stack([box, box + 20.0]), overlap=0.9)
    assert [round(v, 4) for v in each([found, found]).tolist()] == [1.9, 0.0]
    assert each.rows(1, 2)([found]).tolist() == [0.0]
    assert DetectedBox(box).rows(0, 1).box is box
    assert DetectedBox(torch.zeros(4), overlap=0.0)([{**found, "boxes": torch.zeros(3, 4)}]).isfinite().all()
    with pytest.raises(TypeError, match="needs a list of dicts"):
        DetectedBox(box)(LOGITS)
    with pytest.raises(ValueError, match="`box` must have shape"):
        DetectedBox(torch.zeros(3))


class Detector(nn.Module):
    """A detector's form of output: one dict a sample, some without detections."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        values = self.head(torch.relu(self.body(x)).mean((2, 3)))
        return [
            {
                "boxes": torch.stack([v[:2].sigmoid(), 1 + v[2:4].sigmoid()]).view(1, 4),
                "labels": torch.tensor([1]),
                "scores": v[4:].sigmoid(),
            }
            for v in values
        ]


@pytest.mark.fault("jacobgil/pytorch-grad-cam#574")
@pytest.mark.parametrize("method", ["gradcam", "scorecam", "ablationcam", "integratedgradients"])
def test_lists_of_detections_are_explained(method):
    model, x = seeded(Detector(), 1).double(), images(rows=3).double()
    target = DetectedBox(torch.tensor([0.4, 0.4, 1.5, 1.5]), 1, overlap=0.1)
    options = {} if method == "integratedgradients" else {"layer": "body"}
    whole = explain(model, x, method=method, target=target, **options)
    parts = explain(model, x, method=method, target=target, chunk=1, **options)
    assert whole.raw.abs().max() > 0
    torch.testing.assert_close(parts.raw, whole.raw, rtol=0, atol=1e-10 * whole.raw.abs().max().item())


# ---------------------------------------------------------------- selection


@dataclass
class Record:
    aux: torch.Tensor
    logits: torch.Tensor


@pytest.mark.fault("jacobgil/pytorch-grad-cam#355")
def test_logits_are_found_before_other_tensors():
    other = torch.zeros(2, 9)
    record, space = Record(other, LOGITS), SimpleNamespace(aux=other, logits=LOGITS)
    integers_first, nested = [torch.tensor([1, 2]), LOGITS], {"x": {"y": (3, LOGITS)}}
    named = {"aux": other, "logits": LOGITS}
    for output in (LOGITS, (LOGITS, other), integers_first, named, record, space, nested):
        assert select_logits(output, None) is LOGITS
    assert select_logits((other, LOGITS), lambda out: out[1]) is LOGITS
    assert select_logits({"a": 1, "b": "text"}, None) is None
    with pytest.raises(TypeError, match="`select` must be a function that returns a tensor"):
        select_logits((other, LOGITS), lambda out: 3)


def test_functions_see_the_whole_output_unless_select_says_otherwise():
    model, x = seeded(Net(head="dict"), 0), images()
    whole = explain(model, x, layer="relu2", target=lambda out: out["logits"][:, 1])
    selected = explain(model, x, layer="relu2", target=lambda out: out[:, 1], select=lambda out: out["logits"])
    assert torch.equal(whole.raw, selected.raw)


class Second(Target):
    """A user's own target class."""

    def __call__(self, output):
        return output[:, 2]


def test_users_may_write_target_classes():
    model, x = seeded(Net(), 0), images()
    own = explain(model, x, layer="relu2", target=Second(), chunk=2)
    torch.testing.assert_close(own.raw, explain(model, x, layer="relu2", target=2).raw)
    assert own.target is None


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Comparison(0, torch.tensor([1, 2])), ValueError, r"`others` must be integers of shape \(N, R\)"),
        (lambda: Comparison(0, torch.zeros(2, 1)), ValueError, r"`others` must be integers of shape \(N, R\)"),
        (lambda: Comparison(0, [[1], [2]]), TypeError, "`others` must be a tensor"),
        (lambda: Comparison(0, torch.tensor([[1]]), float("nan")), ValueError, "`weight`"),
        (lambda: Region(1, np.ones((2, 2))), TypeError, "`mask` must be a tensor"),
        (lambda: EmbeddingSimilarity(np.ones(3)), TypeError, "`reference` must be a tensor"),
        (lambda: DetectedBox([0, 0, 1, 1]), TypeError, "`box` must be a tensor"),
        (lambda: DetectedBox(torch.zeros(4), overlap=50), ValueError, "`overlap` must lie in"),
    ],
)
def test_wrong_parts_of_a_target_are_named_where_it_is_made(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Comparison(0, torch.tensor([[1, 9], [1, 2]])), r"`others` must lie in \[0, 2\]; got 9"),
        (Comparison(0, torch.tensor([[-1, 1], [1, 2]])), r"`others` must lie in \[0, 2\]; got -1"),
        (Comparison(0, torch.tensor([[1, 2]])), "`others` must have a row for each of the 2 samples"),
        (Contrast(0, 7), r"`against` must lie in \[0, 2\]; got 7"),
    ],
)
def test_wrong_classes_of_a_target_are_named(target, message):
    with pytest.raises(ValueError, match=message):
        target(LOGITS)


def test_others_may_be_of_any_integer_type():
    small = Comparison(0, torch.tensor([[1], [2]], dtype=torch.uint8))
    assert torch.equal(small(LOGITS), Comparison(0, torch.tensor([[1], [2]]))(LOGITS))
