from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkit._errors import DataError
from cvkit.gan.datasets.quickdraw import Drawing, iter_binary, write_binary

stroke = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=5).map(
    lambda s: np.array(s).reshape(-1, 2)
)
drawing = st.builds(
    Drawing,
    st.lists(stroke, max_size=4).map(tuple),
    recognized=st.booleans(),
    key_id=st.integers(0, 2**64 - 1),
    country=st.sampled_from(["US", "DE"]),
    timestamp=st.integers(0, 2**32 - 1).map(lambda s: str(np.datetime64(s, "s")).replace("T", " ") + " UTC"),
)


@given(st.lists(drawing, max_size=4))
def test_drawings_come_back(tmp_path_factory, drawings):
    path = tmp_path_factory.mktemp("bin") / "x.bin"
    write_binary(path, drawings)
    again = list(iter_binary(path, word="w"))
    for a, b in zip(drawings, again, strict=True):
        assert [s.tolist() for s in a.strokes] == [s.tolist() for s in b.strokes]
        assert (a.recognized, a.key_id, a.country, a.timestamp) == (b.recognized, b.key_id, b.country, b.timestamp)
        assert b.word == "w"


def test_the_layout_is_the_official_one(tmp_path):
    # u64 key, 2 letters, i8 flag, u32 time, u16 strokes; u16 points, all x, all y: little-endian, no padding.
    data = (
        struct.pack("<Q", 5)
        + b"GB"
        + b"\x01"
        + struct.pack("<I", 1488401896)
        + b"\x01\x00"
        + b"\x03\x00"
        + bytes([1, 2, 3, 9, 8, 7])
    )
    (tmp_path / "x.bin").write_bytes(data)
    (one,) = iter_binary(tmp_path / "x.bin")
    assert one.strokes[0].tolist() == [[1, 9], [2, 8], [3, 7]]
    assert one.timestamp == "2017-03-01 20:58:16 UTC"
    write_binary(tmp_path / "y.bin", [one])
    assert (tmp_path / "y.bin").read_bytes() == data


def test_every_cut_inside_a_drawing_is_noticed(tmp_path):
    path = tmp_path / "x.bin"
    one = Drawing(
        (np.array([[1, 2], [3, 4]]), np.array([[5, 6]])), country="US", timestamp="2017-03-01 20:41:36.70725 UTC"
    )
    write_binary(path, [one, one])
    data = path.read_bytes()
    size = len(data) // 2
    for cut in range(1, len(data)):
        path.write_bytes(data[:cut])
        if cut == size:
            assert len(list(iter_binary(path))) == 1
            continue
        with pytest.raises(DataError, match=rf"x\.bin: byte {0 if cut < size else size}: truncated"):
            list(iter_binary(path))


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_any_bytes_parse_or_raise_one_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "x.bin"
    path.write_bytes(data)
    said = "x.bin: byte"
    try:
        list(iter_binary(path))
    except DataError as error:
        said = str(error)
    assert "x.bin: byte" in said


def test_a_headerless_bitmap_file_is_refused(real_data):
    with pytest.raises(DataError, match="byte 0: not a stroke file"):
        list(iter_binary(real_data / "quickdraw" / "trains1000.bin"))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Drawing((np.array([[0, 256]]),)), "whole coordinates"),
        (Drawing((np.array([[0.5, 0]]),)), "whole coordinates"),
        (Drawing((), country="USA"), "two letters"),
        (Drawing((), key_id=1 << 64), "below 2"),
        (Drawing((), timestamp="yesterday"), "timestamp"),
        (Drawing((), timestamp="1950-01-01 00:00:00 UTC"), "32 bits"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, bad, says):
    with pytest.raises(ValueError, match=says):
        write_binary(tmp_path / "x.bin", [bad])
    assert not list(tmp_path.iterdir())
