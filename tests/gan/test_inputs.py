from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from cvkit.gan.datasets import ImageSet
from cvkit.gan.inputs import checked_data, fingerprint

IMAGES = np.arange(4 * 8 * 9, dtype=np.uint8).reshape(4, 8, 9)
LABELS = np.array([1, 0, 1, 0])


@dataclass
class Foreign:
    images: Any
    labels: Any
    names: Any


@pytest.mark.parametrize(
    "data",
    [
        ImageSet(IMAGES, LABELS, ("0", "1")),
        Foreign(IMAGES, LABELS, ["0", "1"]),
        (IMAGES, LABELS),
        (torch.from_numpy(IMAGES), torch.from_numpy(LABELS)),
        (IMAGES[:, None], LABELS.astype(np.uint8)),
    ],
)
def test_every_kind_of_data_set_is_the_same_inside(data):
    known = checked_data(data)
    assert np.array_equal(known.images, IMAGES[:, None])
    assert np.array_equal(known.labels, LABELS)
    assert known.names == ("0", "1")
    assert fingerprint(known) == fingerprint(checked_data((IMAGES, LABELS)))


def test_the_fingerprint_tells_data_apart():
    base = fingerprint(checked_data((IMAGES, LABELS)))
    other = IMAGES.copy()
    other[3, 7, 8] ^= 1
    assert fingerprint(checked_data((other, LABELS)))["sha256"] != base["sha256"]
    assert fingerprint(checked_data((IMAGES, 1 - LABELS)))["sha256"] != base["sha256"]
    assert fingerprint(checked_data((IMAGES[::-1], LABELS[::-1])))["sha256"] != base["sha256"]
    assert fingerprint(checked_data(ImageSet(IMAGES, LABELS, ("x", "y"))))["classes"] == ["x", "y"]


def test_labels_outside_the_classes_are_refused_naming_the_value():
    with pytest.raises(ValueError, match=r"got 12 at row 2"):
        checked_data(Foreign(IMAGES, [0, 1, 12, 0], ["a", "b"]))
    with pytest.raises(ValueError, match=r"got -1 at row 0"):
        checked_data((IMAGES, np.array([-1, 0, 1, 0])))


def test_a_class_without_an_image_is_refused_by_name():
    with pytest.raises(ValueError, match="images of every class; class 'fish' has none"):
        checked_data(ImageSet(IMAGES, LABELS, ("cat", "apple", "fish")))


@pytest.mark.fault("voletiv/self-attention-GAN-pytorch#6")
def test_floats_are_refused_whatever_their_range():
    with pytest.raises(TypeError, match="`images` must be uint8"):
        checked_data((IMAGES.astype(np.float32) / 255, LABELS))


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        ((IMAGES,), ValueError, "a tuple of 1"),
        ((IMAGES, LABELS.astype(float)), TypeError, "integer labels"),
        ((IMAGES[:0], LABELS[:0]), ValueError, "at least one image"),
        ((IMAGES[:, :7], LABELS), ValueError, "at least 8 x 8"),
        ((IMAGES, LABELS[:3]), ValueError, "`labels` must have shape"),
        (IMAGES, TypeError, "`data` must have images, labels and names"),
        (None, TypeError, "`data` must have images, labels and names"),
    ],
)
def test_bad_data_sets_are_refused(data, error, match):
    with pytest.raises(error, match=match):
        checked_data(data)
