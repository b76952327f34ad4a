from __future__ import annotations

import io
import os
import pickle
import pickletools
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkit._errors import DataError
from cvkit.gan.datasets.quickdraw import StrokeSet, generate, read_sketchrnn, write_sketchrnn

TWO = StrokeSet.of([[np.array([[5, 5], [9, 5]]), np.array([[0, 0]])], [np.array([[1, 2], [3, 4], [0, 7]])]])


def object_array(items):
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def archive(path, data=None, header=None, **parts):
    """Write an npz whose parts are given as pickles of one protocol, or as raw bytes."""
    with zipfile.ZipFile(path, "w") as file:
        for name in ("train", "valid", "test"):
            out = io.BytesIO()
            np.lib.format.write_array_header_1_0(out, header or {"descr": "|O", "fortran_order": False, "shape": (1,)})
            file.writestr(f"{name}.npy", out.getvalue() + (parts.get(name) or data))


def stroke3(n=1, dtype=np.int16):
    return object_array([np.array([[5, 5, 0], [4, 0, 1], [-9, -5, 1]], dtype) for _ in range(n)])


def test_what_is_written_comes_back(tmp_path):
    suns = generate(["sun"], 6).strokes
    write_sketchrnn(tmp_path / "sun.npz", suns[:3], suns[3:5], suns[5:])
    parts = read_sketchrnn(tmp_path / "sun.npz")
    assert [len(part) for part in parts] == [3, 2, 1]
    both = StrokeSet.concatenate(parts)
    assert both.points.tolist() == suns.points.tolist()
    assert both.strokes.tolist() == suns.strokes.tolist()


def test_numpy_reads_what_is_written_as_it_reads_official_files(tmp_path):
    write_sketchrnn(tmp_path / "x.npz", TWO)
    with np.load(tmp_path / "x.npz", allow_pickle=True, encoding="latin1") as arrays:
        assert arrays["train"][0].tolist() == [[5, 5, 0], [4, 0, 1], [-9, -5, 1]]
        assert arrays["train"][0].dtype == np.int16
        assert arrays["valid"].shape == (0,)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("dtype", [np.int16, ">i2", np.int8, np.float32, np.float64, np.int64])
def test_pickles_of_numpy_are_read_without_unpickling(tmp_path, monkeypatch, protocol, dtype):
    archive(tmp_path / "x.npz", pickle.dumps(stroke3(dtype=dtype), protocol=protocol))
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "loads", None)
    monkeypatch.setattr(pickle, "Unpickler", None)
    (drawing,) = read_sketchrnn(tmp_path / "x.npz").train
    assert [s.tolist() for s in drawing] == [[[5, 5], [9, 5]], [[0, 0]]]


def test_a_drawing_that_ends_with_the_pen_down_is_closed(tmp_path):
    archive(tmp_path / "x.npz", pickle.dumps(object_array([np.array([[1, 1, 0], [1, 1, 0]], np.int16)]), protocol=2))
    assert [len(d) for d in read_sketchrnn(tmp_path / "x.npz").test] == [1]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.fault("pytorch/pytorch#163105")
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: object_array([e]), lambda e: [e]])
def test_a_pickle_that_runs_something_runs_nothing(tmp_path, protocol, wrap):
    archive(tmp_path / "x.npz", pickle.dumps(wrap(Evil(str(tmp_path / "made"))), protocol=protocol))
    with pytest.raises(DataError, match=r"x\.npz: member 'train\.npy'"):
        read_sketchrnn(tmp_path / "x.npz")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([1, 2], "does not describe an array"),
        (np.zeros(3), "no list of arrays"),
        (object_array([1]), "not an array"),
        (object_array([np.zeros((2, 4), np.int16)]), "shape"),
        (object_array([np.zeros((2, 3), complex)]), "numbers of shape"),
        (object_array([np.array([[np.nan, 0, 0]])]), "finite"),
        (object_array([object_array([1])]), "numbers of shape"),
        (stroke3(2), "1 drawings expected, 2 found"),
        ({"a": 1}, "refused"),
        (object_array([{1}]), "refused"),
    ],
)
def test_other_contents_are_refused(tmp_path, value, says):
    archive(tmp_path / "x.npz", pickle.dumps(value, protocol=2))
    with pytest.raises(DataError, match=rf"x\.npz: member 'train\.npy'.*{says}"):
        read_sketchrnn(tmp_path / "x.npz")


def test_a_shared_array_may_not_multiply(tmp_path):
    big = np.zeros((1000, 3), np.int16)
    array = object_array([big] * 500)
    archive(
        tmp_path / "x.npz", pickle.dumps(array, protocol=2), {"descr": "|O", "fortran_order": False, "shape": (500,)}
    )
    assert (tmp_path / "x.npz").stat().st_size < 30_000
    with pytest.raises(DataError, match="more data than"):
        read_sketchrnn(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "raw",
    [
        b".",
        b"N.",
        b"(",
        b"0.",
        b"R.",
        b"]N]a.",
        b"h\x00.",
        b"t.",
        b"b.",
        b"Na.",
        b"NNb.",
        b"NN.",
        b"\x80\x02cos\nsystem\n.",
    ],
)
def test_short_hostile_streams_are_refused(tmp_path, raw):
    archive(tmp_path / "x.npz", raw)
    with pytest.raises(DataError, match=r"x\.npz"):
        read_sketchrnn(tmp_path / "x.npz")


VALID = pickle.dumps(stroke3(), protocol=2)


@settings(max_examples=100)
@given(st.binary(max_size=60) | st.tuples(st.integers(0, len(VALID) - 1), st.integers(1, 255), st.integers(0, 9)))
def test_any_bytes_parse_or_raise_one_error(tmp_path_factory, data):
    if isinstance(data, tuple):
        at, flip, cut = data
        data = bytearray(VALID)
        data[at] ^= flip
        data = bytes(data[: len(data) - cut])
    path = tmp_path_factory.mktemp("any") / "x.npz"
    archive(path, data)
    said = str(path)
    try:
        read_sketchrnn(path)
    except DataError as error:
        said = str(error)
    assert str(path) in said


def test_every_opcode_beyond_the_list_is_refused():
    from cvkit.gan.datasets.quickdraw.sketchrnn import _Machine, _Refused

    known = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"}
    known |= {
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINFLOAT",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "EMPTY_TUPLE",
        "TUPLE1",
        "TUPLE2",
    }
    known |= {"TUPLE3", "TUPLE", "MARK", "EMPTY_LIST", "APPEND", "APPENDS", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"}
    known |= {"PROTO", "FRAME", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"}
    for opcode in pickletools.opcodes:
        if opcode.name not in known:
            with pytest.raises(_Refused, match="no array needs it"):
                _Machine().step(opcode.name, None)


def test_missing_parts_and_wrong_headers_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("train.npy", b"")
    with pytest.raises(DataError, match="not an npy file"):
        read_sketchrnn(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        file.writestr("valid.npy", b"")
    with pytest.raises(DataError, match=r"no member 'train\.npy'"):
        read_sketchrnn(tmp_path / "b.npz")
    archive(tmp_path / "c.npz", VALID, {"descr": "<i2", "fortran_order": False, "shape": (1,)})
    with pytest.raises(DataError, match="object array"):
        read_sketchrnn(tmp_path / "c.npz")
    (tmp_path / "d.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match="not an npz"):
        read_sketchrnn(tmp_path / "d.npz")
    write_sketchrnn(tmp_path / "e.npz", TWO)
    with pytest.raises(DataError, match="at most 10"):
        read_sketchrnn(tmp_path / "e.npz", max_bytes=10)


def test_offsets_beyond_sixteen_bits_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="16 bits"):
        write_sketchrnn(tmp_path / "x.npz", [[np.array([[0, 0], [40_000, 0]])]])
    assert not list(tmp_path.iterdir())
