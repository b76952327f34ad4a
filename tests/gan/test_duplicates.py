from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvkit.gan import find_copies, quickdraw


@given(st.lists(st.integers(0, 4), max_size=12), st.sampled_from([0.0, 3.0]))
def test_copies_point_to_the_first_of_their_kind(which, near):
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7), dtype=np.uint8)[which]
    expected = [which.index(w) if which.index(w) < i else -1 for i, w in enumerate(which)]
    assert find_copies(images, near=near, chunk=3).tolist() == expected


def test_copies_of_another_set():
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 6, 7), dtype=np.uint8)
    assert find_copies(images[[3, 0]], images[[0, 1, 3]]).tolist() == [2, 0]
    assert find_copies(images[:2], images[3:]).tolist() == [-1, -1]
    assert find_copies(images[:2], images[:0], near=5).tolist() == [-1, -1]
    nearly = images[[3, 0]] ^ 1
    assert find_copies(nearly, images).tolist() == [-1, -1]
    assert find_copies(nearly, images, near=2.0).tolist() == [3, 0]


def test_a_slightly_different_drawing_is_a_near_copy_and_another_one_is_not():
    suns = quickdraw.generate(["sun"], 40).images
    touched = suns.copy()
    touched[:, 3:5, 3:5] ^= 8
    both = np.concatenate([suns, touched])
    assert find_copies(both).max() == -1
    found = find_copies(both, near=2.0, chunk=16)
    assert found[40:].tolist() == list(range(40))
    assert found[:40].max() == -1


def test_a_chain_of_near_copies_keeps_its_originals():
    # 0 and 10 are near, 10 and 20 are near, 0 and 20 are not: the middle goes, both ends stay.
    images = np.stack([np.full((4, 4), level, np.uint8) for level in (0, 10, 20)])
    assert find_copies(images, near=10.0).tolist() == [-1, 0, -1]


def test_bad_images_are_refused():
    good = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(TypeError, match="images"):
        find_copies(np.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match="of"):
        find_copies(good, np.zeros((2, 5, 4), np.uint8))
    with pytest.raises(ValueError, match="near"):
        find_copies(good, near=-1)
