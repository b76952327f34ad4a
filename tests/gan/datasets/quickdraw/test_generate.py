from __future__ import annotations

import numpy as np
import pytest

from cvkit.gan.datasets import quickdraw as q


def test_there_are_more_than_eight_things():
    assert len(q.GENERATED) >= 8


@pytest.mark.parametrize("word", q.GENERATED)
def test_drawings_of_a_class_differ_from_one_another(word):
    data = q.generate([word], 40)
    flat = data.images.reshape(40, -1).astype(float)
    distance = np.sqrt(((flat[:, None] - flat[None]) ** 2).mean(-1))[~np.eye(40, dtype=bool)]
    assert distance.min() > 15
    assert distance.mean() > 50
    assert len(set(data.strokes.stroke_counts)) > 1 or word in {"star"}
    ink = (data.images > 0).mean(axis=(1, 2))
    assert ink.min() > 0.05
    assert ink.max() < 0.75


def test_the_same_state_gives_the_same_bytes(tmp_path):
    a = q.write_generated(
        tmp_path / "a", ["sun", "cup"], 5, formats=["raw", "numpy_bitmap"], rng=np.random.default_rng(3)
    )
    b = q.write_generated(
        tmp_path / "b", ["sun", "cup"], 5, formats=["raw", "numpy_bitmap"], rng=np.random.default_rng(3)
    )
    c = q.write_generated(
        tmp_path / "c", ["sun", "cup"], 5, formats=["raw", "numpy_bitmap"], rng=np.random.default_rng(4)
    )
    assert [f.read_bytes() for f in a] == [f.read_bytes() for f in b]
    assert a[1].read_bytes() != c[1].read_bytes()
    assert q.generate(["sun"], 2).images.tolist() == q.generate(["sun"], 2).images.tolist()


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    q.generate(["sun"], 2)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_dirty_drawings_carry_the_flag_and_look_otherwise():
    data = q.generate(["star"], 300, dirty=0.4)
    assert 0.3 < 1 - data.recognized.mean() < 0.5
    good = data.images[data.recognized].mean(0)
    bad = data.images[~data.recognized].mean(0)
    assert np.abs(good - bad).mean() > 8


def test_raw_drawings_look_like_raw_files():
    for drawing in q.generate_drawings("house", 5):
        times = np.concatenate(drawing.times)
        assert (np.diff(times) > 0).all()
        assert [len(t) for t in drawing.times] == [len(s) for s in drawing.strokes]
        assert np.concatenate(drawing.strokes).max() > 256


def test_nothing_asked_nothing_given():
    assert len(q.generate(["sun"], 0)) == 0
    assert len(q.generate([], 5)) == 0


def test_all_classes_come_by_default():
    assert q.generate(n=1).names == q.GENERATED


def test_unknown_words_and_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match="word"):
        q.generate_drawings("dog", 1)
    with pytest.raises(ValueError, match="classes"):
        q.generate(["dog"])
    with pytest.raises(ValueError, match="formats"):
        q.write_generated(tmp_path, formats=["png"])
    with pytest.raises(ValueError, match="dirty"):
        q.generate(["sun"], dirty=2)
    assert not list(tmp_path.iterdir())
