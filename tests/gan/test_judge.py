from __future__ import annotations

import numpy as np
import pytest
import torch

from cvkit._errors import WeightsError
from cvkit.gan import Judge, SketchClassifier, robustness, train_classifier
from cvkit.gan.datasets import ImageSet, quickdraw
from cvkit.weights import load_metadata, load_tensors, save_tensors


@pytest.fixture(scope="module")
def parts():
    return quickdraw.generate(["sun", "ladder", "star"], 90).split(test=0.5)


@pytest.fixture(scope="module")
def judge(parts):
    return train_classifier(parts.train, steps=60, batch_size=32)


def test_a_judge_knows_what_is_drawn_under_every_fault(judge, parts):
    table = robustness(judge, parts.test)
    assert table["clean"] > 0.93
    assert min(table.values()) > 0.75
    assert robustness(judge, parts.test) == table


def test_one_seed_one_judge_and_no_global_generator(parts):
    state = torch.get_rng_state()
    a, b, c = (
        train_classifier(parts.train, steps=3, batch_size=16, seed=s, width=4).network.state_dict() for s in (0, 0, 1)
    )
    assert all(a[key].equal(b[key]) for key in a)
    assert not all(a[key].equal(c[key]) for key in a)
    assert torch.get_rng_state().equal(state)


def test_training_leaves_the_data_alone(parts):
    before = parts.train.images.copy()
    train_classifier(parts.train, steps=1, batch_size=8, width=4)
    assert (parts.train.images == before).all()


def test_clean_training_and_colour_and_other_sizes_work():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 3, 9, 17), dtype=np.uint8)
    judge = train_classifier((images, np.arange(12) % 2), steps=2, batch_size=5, degraded=0, width=4, features=6)
    assert judge.logits(images).shape == (12, 2)
    assert judge.features(torch.from_numpy(images), batch_size=5).shape == (12, 6)
    assert judge.names == ("0", "1")


def test_batches_do_not_change_what_is_seen(judge, parts):
    images = parts.test.images
    assert np.allclose(judge.logits(images), judge.logits(images, batch_size=7), atol=1e-4)
    assert judge.logits(images[:0]).shape == (0, 3)
    assert judge.predict(images).dtype == np.int64


def test_looking_leaves_the_network_as_it_was(parts):
    judge = Judge(SketchClassifier(3, width=4), ("a", "b", "c"))
    judge.network.train()
    judge.network.body[1].eval()
    judge.logits(parts.test.images[:5])
    assert judge.network.training
    assert not judge.network.body[1].training
    assert judge.network.body[1].num_batches_tracked == 0


def test_classes_are_matched_by_name(judge, parts):
    turned = parts.test.select(["star", "sun"])
    assert judge.recognized(turned).mean() > 0.93
    assert judge.recognized((parts.test.images, parts.test.labels)).mean() > 0.93
    other = ImageSet(parts.test.images[:2], np.array([0, 0]), ["dog"])
    with pytest.raises(ValueError, match="'dog'; the judge knows sun, ladder, star"):
        judge.recognized(other)


def test_a_judge_comes_back_from_its_file(judge, parts, tmp_path):
    named = Judge(judge.network, judge.names, {"data": "generated"})
    named.save(tmp_path / "judge.safetensors")
    again = Judge.load(tmp_path / "judge.safetensors")
    assert again.names == judge.names
    assert dict(again.about) == {"data": "generated"}
    assert (again.logits(parts.test.images) == judge.logits(parts.test.images)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"names": "[]"},
        {"names": "no json"},
        {"shape": "{}"},
        {"shape": '{"classes": 3, "channels": 1, "width": 1000000000, "features": 9}'},
        {"shape": '{"classes": 3, "channels": 1, "width": 8, "features": 9}'},
        {"about": "3"},
    ],
)
def test_files_that_hold_no_judge_are_refused(judge, tmp_path, change):
    judge.save(tmp_path / "a.safetensors")
    head = {
        key: value
        for key, value in load_metadata(tmp_path / "a.safetensors").items()
        if key in {"format", "names", "shape", "about"}
    }
    save_tensors(tmp_path / "b.safetensors", load_tensors(tmp_path / "a.safetensors"), metadata=head | change)
    with pytest.raises(WeightsError, match=r"b\.safetensors"):
        Judge.load(tmp_path / "b.safetensors")


def test_a_missing_judge_is_named(tmp_path):
    with pytest.raises(WeightsError, match="none"):
        Judge.load(tmp_path / "none")


def test_arguments_are_checked(judge, parts):
    with pytest.raises(ValueError, match="at least one image"):
        train_classifier(parts.train[:0])
    with pytest.raises(ValueError, match="batch_size"):
        train_classifier(parts.train, batch_size=1)
    with pytest.raises(ValueError, match="degraded"):
        train_classifier(parts.train, degraded=1.5)
    with pytest.raises(TypeError, match="uint8"):
        judge.logits(np.zeros((2, 28, 28)))
    with pytest.raises(ValueError, match="1 channels"):
        judge.logits(np.zeros((2, 3, 28, 28), np.uint8))
    with pytest.raises(TypeError, match="judge"):
        robustness(judge.network, parts.test)
    with pytest.raises(ValueError, match="classes"):
        SketchClassifier(0)
