from __future__ import annotations

from pathlib import Path

import pytest

from cvkit.gan.datasets.quickdraw._files import class_of


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("cat.npy", "cat"),
        ("The Eiffel Tower.npy", "The Eiffel Tower"),
        ("The%20Eiffel%20Tower.ndjson", "The Eiffel Tower"),
        ("full_numpy_bitmap_cat.npy", "cat"),
        ("full%2Fnumpy_bitmap%2Fice cream.npy", "ice cream"),
        ("full_simplified_sea turtle.ndjson", "sea turtle"),
        ("full_raw_cat.ndjson", "cat"),
        ("full_binary_cat.bin", "cat"),
        ("sketchrnn_cat.npz", "cat"),
        ("cat.full.npz", "cat"),
        ("raw_.npy", "raw_"),
        ("t-shirt.npy", "t-shirt"),
    ],
)
def test_file_names_tell_the_class(name, word):
    assert class_of(Path("folder", name)) == word
