from __future__ import annotations

import numpy as np
import pytest

from cvkit._errors import DataError
from cvkit.gan.datasets import quickdraw as q


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("quickdraw")
    q.write_generated(root, ["star", "ice cream", "fish"], 12, formats=["numpy_bitmap", "simplified", "raw"], dirty=0.3)
    return root


def simplified(folder, name="star"):
    return list(q.iter_drawings(folder / "simplified" / f"{name}.ndjson"))


def test_a_folder_of_official_files_is_a_set_with_flags_and_strokes(folder):
    data = q.load(folder)
    assert data.names == ("fish", "ice cream", "star")
    assert data.counts.tolist() == [12, 12, 12]
    assert data.recognized.tolist() == [d.recognized for n in data.names for d in simplified(folder, n)]
    assert np.abs(q.rasterize(data.strokes).astype(int) - data.images).max() <= 1
    assert data.rows.tolist() == list(range(12)) * 3


def test_classes_come_in_the_order_asked_for(folder):
    data = q.load(folder, classes=["star", "fish"])
    assert data.names == ("star", "fish")
    assert q.load(folder, classes=["fish"]).images.tolist() == data.select(["fish"]).images.tolist()


@pytest.mark.parametrize("kind", ["numpy_bitmap", "simplified", "raw"])
def test_every_format_alone_gives_the_same_pictures(folder, kind):
    all_, alone = q.load(folder), q.load(folder / kind)
    assert alone.names == all_.names
    assert np.abs(alone.images.astype(int) - all_.images).mean() < 1.0
    assert (alone.recognized is None) == (kind == "numpy_bitmap")


def test_single_files_of_every_format_are_read(folder, tmp_path):
    drawings = simplified(folder)
    q.write_binary(tmp_path / "star.bin", drawings)
    q.write_sketchrnn(tmp_path / "star.full.npz", drawings[:10], drawings[10:])
    q.write_arrays(tmp_path / "any.npz", q.load(folder))
    want = q.load(folder, classes=["star"])
    for path in (
        folder / "numpy_bitmap" / "star.npy",
        folder / "simplified" / "star.ndjson",
        tmp_path / "star.bin",
        tmp_path / "star.full.npz",
    ):
        data = q.load(path)
        assert data.names == ("star",)
        assert np.abs(data.images.astype(int) - want.images).max() <= 1
    assert q.load(tmp_path / "star.bin").recognized.tolist() == want.recognized.tolist()
    assert q.load(tmp_path / "any.npz", classes=["star"]).images.tolist() == want.images.tolist()


def test_a_mix_of_formats_is_one_set(folder, tmp_path):
    (tmp_path / "star.npy").write_bytes((folder / "numpy_bitmap" / "star.npy").read_bytes())
    q.write_binary(tmp_path / "fish.bin", simplified(folder, "fish"))
    q.write_sketchrnn(tmp_path / "sketchrnn_ice%20cream.npz", simplified(folder, "ice cream"))
    q.write_arrays(tmp_path / "more.npz", q.generate(["sun"], 3))
    (tmp_path / ".star.npy.part").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.warns(UserWarning, match="known of fish, sun only"):
        data = q.load(tmp_path)
    assert data.names == ("fish", "ice cream", "sun", "star")
    assert data.recognized is None
    assert q.load(tmp_path, classes=["sun", "fish"]).recognized.all() is not None


@pytest.mark.parametrize("limit", [1, 5, 100])
def test_limit_reads_the_first_rows_of_each_class(folder, tmp_path, limit):
    data, all_ = q.load(folder, limit=limit), q.load(folder)
    first = all_[all_.rows < limit]
    assert data.images.tolist() == first.images.tolist()
    assert data.recognized.tolist() == first.recognized.tolist()
    q.write_arrays(tmp_path / "a.npz", all_)
    assert q.load(tmp_path / "a.npz", limit=limit).images.tolist() == first.images.tolist()
    assert q.load(folder / "simplified", limit=limit).strokes.points.tolist() == first.strokes.points.tolist()
    q.write_binary(tmp_path / "star.bin", simplified(folder))
    q.write_sketchrnn(tmp_path / "star.npz", simplified(folder))
    assert (
        len(q.load(tmp_path / "star.bin", limit=limit))
        == min(limit, 12)
        == len(q.load(tmp_path / "star.npz", limit=limit))
    )


def test_bitmaps_of_one_file_stay_on_disk(folder):
    assert isinstance(q.load(folder / "numpy_bitmap" / "star.npy").images.base, np.memmap)


@pytest.mark.fault("googlecreativelab/quickdraw-dataset#40")
def test_flags_are_joined_only_where_rows_show_the_drawings(folder, tmp_path):
    images = np.load(folder / "numpy_bitmap" / "star.npy")
    q.write_bitmaps(tmp_path / "star.npy", images[::-1])
    q.write_ndjson(tmp_path / "star.ndjson", simplified(folder))
    with pytest.raises(DataError, match="bitmap 0 does not show drawing 0"):
        q.load(tmp_path)
    assert q.load(tmp_path, flags="ignore").recognized is None
    q.write_bitmaps(tmp_path / "star.npy", images[:-1])
    with pytest.raises(DataError, match=r"11 bitmaps, but .* more drawings"):
        q.load(tmp_path)
    assert q.load(tmp_path, limit=11).recognized is not None
    q.write_ndjson(tmp_path / "star.ndjson", simplified(folder)[:4])
    with pytest.raises(DataError, match=r"11 bitmaps, but .* 4 drawings"):
        q.load(tmp_path)


def test_required_flags_that_are_not_there_are_an_error(folder):
    with pytest.raises(DataError, match="no strokes of 'fish'"):
        q.load(folder / "numpy_bitmap", flags="require")


def test_unknown_flags_stay_unknown(folder, tmp_path):
    q.write_ndjson(tmp_path / "a.ndjson", [q.Drawing(d.strokes, d.word) for d in simplified(folder)])
    assert q.load(tmp_path).recognized is None


def test_words_of_a_mixed_file_are_its_classes(folder, tmp_path):
    q.write_ndjson(tmp_path / "mixed.ndjson", simplified(folder, "star")[:3] + simplified(folder, "fish")[:2])
    data = q.load(tmp_path / "mixed.ndjson")
    assert data.names == ("star", "fish")
    assert data.labels.tolist() == [0, 0, 0, 1, 1]
    assert q.load(tmp_path / "mixed.ndjson", limit=1).labels.tolist() == [0, 1]


def test_raw_and_simplified_drawings_may_stand_in_one_file(folder, tmp_path):
    raw = list(q.iter_drawings(folder / "raw" / "star.ndjson"))
    q.write_ndjson(tmp_path / "a.ndjson", [simplified(folder)[0], raw[1], simplified(folder)[2]])
    assert (
        np.abs(
            q.load(tmp_path / "a.ndjson").images.astype(int) - q.load(folder, classes=["star"], limit=3).images
        ).max()
        <= 1
    )


@pytest.mark.parametrize(
    ("path", "classes", "says"),
    [
        ("nowhere", None, "no such file or folder"),
        ("file.txt", None, r"expected a file of one of"),
        ("empty", None, "holds no Quick, Draw! file"),
        ("some", ["dog"], "holds no class 'dog'; there are star"),
        ("some/star.ndjson", ["dog"], "holds no class 'dog'"),
    ],
)
def test_what_is_not_there_is_said(folder, tmp_path, path, classes, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "some").mkdir()
    (tmp_path / "file.txt").write_text("x")
    q.write_ndjson(tmp_path / "some" / "star.ndjson", simplified(folder))
    with pytest.raises(DataError, match=says):
        q.load(tmp_path / path, classes=classes)


def test_arguments_are_checked(folder):
    with pytest.raises(ValueError, match="limit"):
        q.load(folder, limit=0)
    with pytest.raises(ValueError, match="flags"):
        q.load(folder, flags="maybe")
    with pytest.raises(TypeError, match="classes"):
        q.load(folder, classes="star")
    with pytest.raises(DataError, match="stroke file"):
        list(q.iter_drawings(folder / "numpy_bitmap" / "star.npy"))
    with pytest.raises(ValueError, match="as many"):
        q.check_order(np.zeros((2, 28, 28), np.uint8), q.StrokeSet.of([]))


def test_an_empty_file_is_a_class_without_rows(tmp_path):
    (tmp_path / "star.ndjson").write_bytes(b"")
    data = q.load(tmp_path)
    assert (len(data), data.names) == (0, ("star",))


def test_order_of_nothing_is_right():
    assert q.check_order(np.zeros((0, 28, 28), np.uint8), q.StrokeSet.of([])) is None


@pytest.mark.fault("googlecreativelab/quickdraw-dataset#40")
def test_flags_of_official_files_join(real_data, tmp_path):
    source = real_data / "quickdraw"
    (tmp_path / "cat.npy").symlink_to(source / "cat.npy")
    (tmp_path / "cat.ndjson").symlink_to(source / "raw_ndjson" / "cat.ndjson")
    with pytest.raises(DataError, match=r"1500 bitmaps, but .* 25 drawings"):
        q.load(tmp_path)
    data = q.load(tmp_path, limit=25)
    assert data.recognized.sum() == 23
    assert np.abs(q.rasterize(data.strokes).astype(int) - data.images).mean() < 0.5


def test_sketchrnn_drawings_off_the_frame_are_brought_into_it(tmp_path):
    q.write_sketchrnn(tmp_path / "a.npz", [[np.array([[0, 0], [100, 50]])], [np.array([[-300, 0], [300, 300]])]])
    strokes = q.load(tmp_path / "a.npz").strokes
    assert strokes[0][0].tolist() == [[0, 0], [100, 50]]
    assert strokes[1][0].tolist() == [[0, 0], [255, 127.5]]
