from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkit._errors import DataError
from cvkit.gan.datasets.quickdraw import Drawing, generate_drawings, iter_ndjson, write_ndjson
from cvkit.gan.datasets.quickdraw import ndjson as module

GOOD = {
    "word": "cat",
    "countrycode": "US",
    "timestamp": "t",
    "recognized": True,
    "key_id": "7",
    "drawing": [[[0, 1], [2, 3]]],
}


def read(tmp_path, *records):
    path = tmp_path / "x.ndjson"
    path.write_bytes(b"\n".join(r if isinstance(r, bytes) else json.dumps(r).encode() for r in records))
    return list(iter_ndjson(path))


def test_a_line_is_a_drawing(tmp_path):
    (drawing,) = read(tmp_path, GOOD)
    assert drawing.strokes[0].tolist() == [[0, 2], [1, 3]]
    assert (drawing.word, drawing.country, drawing.timestamp, drawing.key_id) == ("cat", "US", "t", 7)
    assert drawing.recognized is True
    assert not drawing.is_raw


def test_what_a_line_does_not_say_stays_unknown(tmp_path):
    (drawing,) = read(tmp_path, {"drawing": [], "word": None, "key_id": 5})
    assert drawing.strokes == ()
    assert drawing.recognized is None
    assert (drawing.word, drawing.key_id) == ("", 5)


def test_raw_drawings_keep_their_times_and_come_back_the_same(tmp_path):
    drawings = generate_drawings("tree", 5, dirty=0.5)
    write_ndjson(tmp_path / "a.ndjson", drawings)
    again = list(iter_ndjson(tmp_path / "a.ndjson"))
    write_ndjson(tmp_path / "b.ndjson", again)
    assert (tmp_path / "a.ndjson").read_bytes() == (tmp_path / "b.ndjson").read_bytes()
    for one, other in zip(drawings, again, strict=True):
        assert all((a == b).all() for a, b in zip(one.times, other.times, strict=True))
        assert all((a == b).all() for a, b in zip(one.strokes, other.strokes, strict=True))
        assert (one.recognized, one.key_id, one.timestamp) == (other.recognized, other.key_id, other.timestamp)


def test_empty_lines_are_passed_over(tmp_path):
    assert len(read(tmp_path, GOOD, b"", b"   ", GOOD)) == 2
    assert read(tmp_path) == []


@pytest.mark.parametrize(
    "bad",
    [
        b'{"drawing":[[[0,1],[2,',
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        GOOD | {"drawing": 3},
        GOOD | {"drawing": [[[0, 1]]]},
        GOOD | {"drawing": [[[0, 1], [2]]]},
        GOOD | {"drawing": [[["0"], ["1"]]]},
        GOOD | {"drawing": [[[True], [1]]]},
        GOOD | {"drawing": [[[[1]], [1]]]},
        GOOD | {"drawing": [[3, 4]]},
        GOOD | {"drawing": [{"x": 1}]},
        GOOD | {"drawing": [[[0], [0]], [[0], [0], [0]]]},
        b'{"drawing":[[[NaN],[0]]]}',
        b'{"drawing":[[[1e999],[0]]]}',
        b'{"drawing":[[[' + b"9" * 400 + b"],[0]]]}",
        b'{"drawing":[[[' + b"9" * 5000 + b"],[0]]]}",
        GOOD | {"word": 3},
        GOOD | {"key_id": "-1"},
        GOOD | {"key_id": str(1 << 64)},
        GOOD | {"key_id": 1.5},
        GOOD | {"key_id": "٣"},
    ],
)
def test_a_damaged_line_is_named(tmp_path, bad):
    with pytest.raises(DataError, match=r"x\.ndjson: line 2"):
        read(tmp_path, GOOD, bad)


def test_lines_and_drawings_have_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_LINE", 100)
    with pytest.raises(DataError, match="line 1 is longer than 100"):
        read(tmp_path, b" " * 101)
    monkeypatch.undo()
    monkeypatch.setattr(module, "_MAX_POINTS", 3)
    with pytest.raises(DataError, match="more than 3 points"):
        read(tmp_path, GOOD | {"drawing": [[[0, 1], [2, 3]]] * 2})


def test_missing_files_and_folders_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list(iter_ndjson(tmp_path / "none.ndjson"))
    with pytest.raises(DataError, match="cannot be read"):
        list(iter_ndjson(tmp_path))


@settings(max_examples=40)
@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists).map(
        lambda v: json.dumps({"drawing": v}).encode()
    )
)
def test_any_bytes_parse_or_raise_one_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "x.ndjson"
    path.write_bytes(data)
    said, drawings = str(path), []
    try:
        drawings = list(iter_ndjson(path))
    except DataError as error:
        said = str(error)
    assert str(path) in said
    assert all(np.isfinite(s).all() for d in drawings for s in d.strokes)


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "x.ndjson"
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match="drawings"):
        write_ndjson(path, [Drawing(()), "no drawing"])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
