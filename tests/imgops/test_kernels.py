"""Each speed trick beside its plain twin, and the fallbacks where a trick is not to be had."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvkit.imgops._kernels import counting, memory
from cvkit.imgops._kernels import tables as lookup
from strategies import SEEDS


def view(seed, shape, layout, dtype=np.uint8):
    """A view (N, C, H, W) in some memory layout."""
    rng = np.random.default_rng(seed)
    n, c, h, w = shape
    top = np.iinfo(dtype).max
    if layout == "planar":
        return rng.integers(0, top, shape, dtype=dtype, endpoint=True)
    if layout == "interleaved":
        return rng.integers(0, top, (n, h, w, c), dtype=dtype, endpoint=True).transpose(0, 3, 1, 2)
    if layout == "fortran":
        return rng.integers(0, top, (n, c, w, h), dtype=dtype, endpoint=True).swapaxes(2, 3)
    if layout == "rows":
        return rng.integers(0, top, (n, h, c, w), dtype=dtype, endpoint=True).swapaxes(1, 2)
    if layout == "cropped":
        return rng.integers(0, top, (n, c, h + 1, w + 3), dtype=dtype, endpoint=True)[..., 1:, 2:-1]
    return rng.integers(0, top, (n, h, w, c), dtype=dtype, endpoint=True)[:, ::-1, ::-1].transpose(0, 3, 1, 2)


LAYOUTS = st.sampled_from(["planar", "interleaved", "fortran", "rows", "cropped", "reversed"])
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 7), st.integers(1, 9))


def plain_map(pixels, tables):
    out = np.empty(pixels.shape, tables.dtype)
    for n, c in itertools.product(range(pixels.shape[0]), range(pixels.shape[1])):
        out[n, c] = tables[c % len(tables)][pixels[n, c]]
    return out


@given(SEEDS, SHAPES, LAYOUTS, st.booleans(), st.booleans())
def test_map_levels(seed, shape, layout, wide, per_channel):
    dtype = np.uint16 if wide else np.uint8
    pixels = view(seed, shape, layout, dtype)
    rng = np.random.default_rng(seed)
    tables = rng.integers(0, np.iinfo(dtype).max, (shape[1] if per_channel else 1, np.iinfo(dtype).max + 1)).astype(
        dtype
    )
    before = pixels.copy()
    out = lookup.map_levels(pixels, tables)
    assert out.dtype == dtype
    assert (out == plain_map(pixels, tables)).all()
    assert (pixels == before).all()


@pytest.mark.parametrize("layout", ["planar", "interleaved", "cropped", "reversed", "rows"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("threads", [1, 3])
def test_map_levels_of_large_images(layout, channels, threads):
    pixels = view(1, (2, channels, 173, 319), layout)
    rng = np.random.default_rng(0)
    for count in {1, channels}:
        tables = rng.integers(0, 256, (count, 256)).astype(np.uint8)
        out = lookup.map_levels(pixels, tables, threads)
        assert (out == plain_map(pixels, tables)).all()


def test_results_keep_the_order_of_memory():
    pixels = view(0, (1, 3, 40, 50), "interleaved")
    tables = np.arange(768).reshape(3, 256).astype(np.uint8)
    assert lookup.map_levels(pixels, tables)[0].transpose(1, 2, 0).flags.c_contiguous


def plain_counts(pixels, mask):
    out = np.zeros((*pixels.shape[:2], 256), np.int64)
    for n, c in itertools.product(range(pixels.shape[0]), range(pixels.shape[1])):
        chosen = pixels[n, c] if mask is None else pixels[n, c][mask[n % len(mask), 0]]
        out[n, c] = np.bincount(chosen.ravel(), minlength=256)
    return out


@given(SEEDS, SHAPES, LAYOUTS, st.booleans())
def test_count_bytes(seed, shape, layout, masked):
    pixels = view(seed, shape, layout)
    mask = np.random.default_rng(seed).random((1, 1, *shape[2:])) > 0.5 if masked else None
    assert (counting.count_bytes(pixels, mask) == plain_counts(pixels, mask)).all()


def test_count_bytes_without_pillows_counting(monkeypatch):
    class Broken:
        @staticmethod
        def frombuffer(*args):
            raise ValueError("no such decoder")

    monkeypatch.setattr(counting, "PILModule", Broken)
    counting._pillow_counts.cache_clear()
    try:
        assert not counting._pillow_counts()
        for layout in ("planar", "interleaved"):
            pixels = view(3, (2, 3, 8, 9), layout)
            mask = np.random.default_rng(0).random((2, 1, 8, 9)) > 0.5
            assert (counting.count_bytes(pixels, mask) == plain_counts(pixels, mask)).all()
            assert (counting.count_bytes(pixels) == plain_counts(pixels, None)).all()
    finally:
        counting._pillow_counts.cache_clear()


def test_pairs_of_bytes_need_a_little_endian_machine(monkeypatch):
    pixels = view(1, (1, 3, 173, 319), "interleaved")
    tables = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint8)
    expected = lookup.map_levels(pixels, tables)

    class Sys:
        byteorder = "big"

    monkeypatch.setattr(lookup, "sys", Sys)
    assert (lookup.map_levels(pixels, tables) == expected).all()


@given(SEEDS, st.integers(1, 300))
def test_count_words(seed, size):
    rng = np.random.default_rng(seed)
    values = rng.integers(-50, 50, size).astype(np.int16)
    expected = np.bincount(np.clip(values, -20, 30) + 20, minlength=51)
    assert (counting.count_words(values, -20, 30) == expected).all()
    weights = rng.random(size)
    np.testing.assert_allclose(
        counting.count_words(values, -20, 30, weights),
        np.bincount(np.clip(values, -20, 30) + 20, weights, minlength=51),
    )


def test_in_parts_covers_everything_once():
    for total, threads, grain in itertools.product((0, 1, 5, 1000, 1001), (1, 2, 7), (1, 64)):
        seen, lock = np.zeros(total, int), threading.Lock()

        def work(start, stop, seen=seen, lock=lock):
            with lock:
                seen[start:stop] += 1

        memory.in_parts(work, total, threads, grain)
        assert (seen == 1).all()


def test_in_parts_hands_errors_on():
    def work(start, stop):
        raise RuntimeError("inside")

    for threads in (1, 2):
        with pytest.raises(RuntimeError, match="inside"):
            memory.in_parts(work, 10, threads)


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("colors", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 3), (7, 5), (1, 13), (701, 501)])
def test_bytes_of_interleaved_channels_are_counted_in_words(channels, colors, size):
    pixels = view(4, (2, channels, *size), "interleaved")[:, :colors]
    assert (counting.count_bytes(pixels) == plain_counts(pixels, None)).all()
    flat, step = counting._interleaved(pixels[0])
    if flat is not None:
        # Nothing is read that does not belong to the view.
        assert step == channels
        assert flat[-1:].ctypes.data == pixels[0, -1:, -1:, -1:].ctypes.data
