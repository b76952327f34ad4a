from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cvkit.gan import Judge, SketchClassifier, evaluate, quickdraw, train_classifier
from cvkit.gan.datasets import ImageSet

NAMES = ["sun", "ladder", "star"]


@pytest.fixture(scope="module")
def parts():
    return quickdraw.generate(NAMES, 70).split(test=0.5)


@pytest.fixture(scope="module")
def judge(parts):
    return train_classifier(parts.train, steps=50, batch_size=32)


class Drawer:
    """Samples by drawing: a generator with nothing wrong, or with the fault it is given."""

    names = tuple(NAMES)

    def __init__(self, fault=lambda images: images):
        self.fault = fault

    def sample(self, labels, n=1, *, generator=None):
        seed = int(torch.randint(0, 1 << 30, (1,), generator=generator))
        data = quickdraw.generate([labels], n, rng=np.random.default_rng(seed))
        return torch.from_numpy(self.fault(data.images))[:, None]


def test_real_drawings_score_like_the_floor(parts, judge):
    result = evaluate(Drawer(), parts.test, judge=judge, train=parts.train)
    assert result.fake.recognized > 0.9
    assert result.fake.frechet < 4 * result.floor.frechet + 1e-6
    assert result.fake.coverage > 0.6
    assert 0.7 < result.fake.variety < 1.3
    assert 0.5 < result.memorization.ratio < 2
    assert result.chance == pytest.approx(1 / 3)


def test_collapse_within_classes_shows(parts, judge):
    result = evaluate(Drawer(lambda images: images[:1].repeat(len(images), 0)), parts.test, judge=judge)
    assert result.fake.recognized > 0.6
    assert result.fake.variety == 0
    assert result.fake.coverage < 0.4
    assert result.fake.worst_coverage < 0.3


def test_grey_paper_shows_in_the_ink_and_not_in_what_is_recognised(parts, judge):
    result = evaluate(Drawer(lambda images: np.maximum(images, 9)), parts.test, judge=judge)
    assert result.fake.recognized > 0.85
    assert result.ink["paper"] == 0
    assert result.real_ink["paper"] > 0.4
    assert result.ink_distances["paper"] > 0.4


def test_wrong_classes_show(parts, judge):
    turned = ImageSet(parts.train.images, (parts.train.labels + 1) % 3, parts.train.names)
    result = evaluate(turned, parts.test, judge=judge)
    assert result.fake.recognized < 0.1
    assert result.fake.worst_class < 0.1


def test_everything_is_repeatable_and_goes_into_json(parts, judge):
    a, b = (evaluate(Drawer(), parts.test, judge=judge, classifier_steps=8, n=36) for _ in range(2))
    assert json.dumps(a.to_dict()) == json.dumps(b.to_dict())
    assert a.n == 36
    assert 0 < a.gan_train <= 1
    assert 0 < a.gan_test <= 1
    other = evaluate(Drawer(), parts.test, judge=judge, n=36, seed=1)
    assert other.to_dict()["fake"] != a.to_dict()["fake"]


def test_the_table_has_a_line_a_measure(parts, judge):
    table = evaluate(parts.train, parts.test, judge=judge, train=parts.train, classifier_steps=2).table()
    for word in (
        "recognized",
        "frechet",
        "coverage",
        "ink: paper",
        "GAN-train",
        "memorization ratio",
        "least recognised",
    ):
        assert word in table


def test_features_of_any_function_do(parts, judge):
    result = evaluate(
        parts.train, parts.test, judge=judge, features=lambda images: images.reshape(len(images), -1)[:, ::37] / 255
    )
    assert result.fake.frechet > 0


def test_colour_and_tuples_do():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (64, 1, 12, 12), dtype=np.uint8), np.arange(64) % 2
    judge = Judge(SketchClassifier(2, width=4).eval(), ("0", "1"))
    assert evaluate((images, labels), (images, labels), judge=judge).n == 32


def test_what_cannot_be_measured_is_said(parts, judge):
    with pytest.raises(ValueError, match="at least 24"):
        evaluate(parts.train, parts.test[:10], judge=judge)
    with pytest.raises(ValueError, match="`judge` must be given: the shipped one does not know 'sun'"):
        evaluate(parts.train, parts.test)
    with pytest.raises(ValueError, match="must hold 17 samples of 'sun'; got 3"):
        evaluate(parts.train[np.r_[:3, 40:100]].select(NAMES), parts.test, judge=judge)
    with pytest.raises(TypeError, match="judge"):
        evaluate(parts.train, parts.test, judge="mine")
