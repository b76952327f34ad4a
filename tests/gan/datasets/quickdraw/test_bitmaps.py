from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkit._errors import DataError
from cvkit.gan.datasets import ImageSet
from cvkit.gan.datasets.quickdraw import open_bitmaps, read_arrays, write_arrays, write_bitmaps


def npy(array):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=False)
    return out.getvalue()


def images(n=3):
    return np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(784,), (1, 784), (28, 28), (1, 28, 28)])
@pytest.mark.parametrize("n", [0, 3])
def test_all_official_shapes_are_read(tmp_path, shape, n):
    path = tmp_path / "cat.npy"
    path.write_bytes(npy(images(n).reshape(n, *shape)))
    assert open_bitmaps(path).tolist() == images(n).tolist()


def test_bitmaps_stay_on_disk_and_cannot_be_written_to(tmp_path):
    write_bitmaps(tmp_path / "cat.npy", images())
    mapped = open_bitmaps(tmp_path / "cat.npy")
    assert isinstance(mapped, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 0


def test_what_is_written_is_an_official_file(tmp_path):
    write_bitmaps(tmp_path / "a.npy", images()[:, None])
    plain = np.load(tmp_path / "a.npy")
    assert plain.shape == (3, 784)
    assert plain.tobytes() == images().tobytes()


@pytest.mark.fault("numpy/numpy#12759")
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not an npy file"),
        (b"<html>404</html>", "not an npy file"),
        (b"version https://git-lfs", "not an npy file"),
        (npy(images())[:-1], "truncated: 2352 bytes of data expected after the header, 2351 found"),
        (npy(images()) + b"x", "longer"),
        (npy(images().astype(np.int16)), "expected uint8"),
        (npy(np.zeros((3, 100), np.uint8)), "expected uint8"),
        (npy(np.asfortranarray(images())), "Fortran"),
        (npy(images()).replace(b"(3, 28, 28), }       ", b"(1000000000000,784),}"), "truncated"),
        (npy(images()).replace(b"(3, 28, 28)", b"(-3, 28, 28)").replace(b"}  ", b"} "), "negative"),
        (npy(images())[:6] + b"\x09\x00" + npy(images())[8:], "version 9"),
        (npy(images()).replace(b"'descr'", b"'decsr'"), "not an npy file"),
        (npy(images()).replace(b"|u1", b"|O "), ""),
    ],
)
def test_damaged_and_foreign_files_are_refused_by_name(tmp_path, data, says):
    path = tmp_path / "cat.npy"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"cat\.npy: .*{says}"):
        open_bitmaps(path)


def test_version_two_headers_are_read(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, images(), version=(2, 0))
    assert open_bitmaps(tmp_path / "a.npy").shape == (3, 28, 28)


@settings(max_examples=60)
@given(
    st.binary(max_size=300) | st.binary(max_size=150).map(lambda b: npy(images(1))[:200] + b),
    st.sampled_from(["npy", "npz"]),
)
def test_any_bytes_parse_or_raise_one_error(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("any") / f"x.{suffix}"
    path.write_bytes(data)
    said = str(path)
    try:
        open_bitmaps(path) if suffix == "npy" else read_arrays(path)
    except DataError as error:
        said = str(error)
    assert str(path) in said


@pytest.mark.parametrize("flip", range(0, 700, 7))
def test_a_flipped_byte_of_an_archive_is_an_error_or_harmless(tmp_path, flip):
    path = tmp_path / "x.npz"
    write_arrays(path, ImageSet(np.zeros((2, 8, 8), np.uint8), np.array([0, 1]), ["a", "b"]))
    data = bytearray(path.read_bytes())
    data[flip % len(data)] ^= 0x55
    path.write_bytes(data)
    said = "x.npz"
    try:
        assert len(read_arrays(path)) == 2
    except DataError as error:
        said = str(error)
    assert "x.npz" in said


def test_writing_wants_bitmaps(tmp_path):
    with pytest.raises(TypeError, match="uint8"):
        write_bitmaps(tmp_path / "a.npy", np.zeros((2, 784)))
    with pytest.raises(ValueError, match=r"\(N, 784\)"):
        write_bitmaps(tmp_path / "a.npy", np.zeros((2, 783), np.uint8))
    assert not list(tmp_path.iterdir())


def labelled():
    return ImageSet(
        images(4), np.array([0, 1, 1, 0]), ["a", "ice cream"], recognized=np.arange(4) > 1, rows=np.arange(4)
    )


def test_a_set_comes_back_from_plain_arrays(tmp_path):
    write_arrays(tmp_path / "a.npz", labelled())
    write_arrays(tmp_path / "b.npz", labelled())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    data = read_arrays(tmp_path / "a.npz")
    for name in ("images", "labels", "recognized", "rows"):
        assert getattr(data, name).tolist() == getattr(labelled(), name).tolist()
    assert data.names == ("a", "ice cream")


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name.replace("__", "."), data)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({}, "no array 'images'"),
        ({"images__npy": npy(images())}, "no array 'labels'"),
        ({"images__npy": npy(images().astype(float))}, "dtype float64"),
        ({"images__npy": npy(images())[:-5]}, "truncated"),
        (
            {
                "images__npy": npy(images()),
                "labels__npy": npy(np.array([0, 1, 9])),
                "names__npy": npy(np.array(["a", "b"])),
            },
            "got 9",
        ),
        (
            {"images__npy": npy(images()), "labels__npy": npy(np.zeros(3, int)), "names__npy": npy(np.array("a"))},
            "names",
        ),
        (
            {
                "images__npy": npy(images()),
                "labels__npy": npy(np.zeros((3, 1), int)),
                "names__npy": npy(np.array(["a"])),
            },
            "labels",
        ),
    ],
)
def test_archives_that_hold_no_set_are_refused(tmp_path, members, says):
    archive(tmp_path / "x.npz", **members)
    with pytest.raises(DataError, match=rf"x\.npz: .*{says}"):
        read_arrays(tmp_path / "x.npz")


def test_an_archive_that_unfolds_to_too_much_is_refused_before_it_unfolds(tmp_path):
    archive(tmp_path / "x.npz", images__npy=bytes(10_000_000))
    assert (tmp_path / "x.npz").stat().st_size < 20_000
    with pytest.raises(DataError, match="unfolds to 10000000 bytes; at most 1000"):
        read_arrays(tmp_path / "x.npz", max_bytes=1000)


def test_the_shared_set_reads(real_data):
    data = read_arrays(real_data / "quickdraw" / "bitmaps_9x2000.npz")
    assert data.counts.tolist() == [2000] * 9
    assert data.rows.max() == 1999
    assert len(open_bitmaps(real_data / "quickdraw" / "cat.npy")) == 1500
