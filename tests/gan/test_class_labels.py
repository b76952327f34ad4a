from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit.gan.class_labels import class_indices

NAMES = ("cat", "apple", "fish")


@given(st.lists(st.integers(0, 2), max_size=6))
def test_names_and_indices_of_every_kind_mean_the_same(indices):
    expected = torch.tensor(indices, dtype=torch.int64)
    for labels in (
        indices, tuple(indices), [NAMES[i] for i in indices], np.array(indices, np.uint8), expected.to(torch.int16),
        [NAMES[i] if n % 2 else i for n, i in enumerate(indices)],
    ):  # fmt: skip
        got = class_indices(labels, NAMES)
        assert got.dtype == torch.int64
        assert torch.equal(got, expected)


def test_errors_use_the_argument_of_the_caller():
    with pytest.raises(ValueError, match=r"`target` must lie in 0\.\.2"):
        class_indices(3, NAMES, argument="target")


@pytest.mark.parametrize(
    ("labels", "error", "match"),
    [
        (3, ValueError, r"`labels` must lie in 0\.\.2 for 3 classes; got 3"),
        ([0, -1], ValueError, r"`labels` must lie in 0\.\.2 for 3 classes; got -1"),
        ("dog", ValueError, "`labels` must name classes among 'cat', 'apple', 'fish'; got 'dog'"),
        (1.5, TypeError, "`labels` must be integers or class names; got 1.5"),
        (True, TypeError, "`labels` must be integers or class names; got True"),
        (torch.tensor([1.0]), TypeError, "`labels` must be integers or class names; got Tensor"),
        (np.array([True]), TypeError, "`labels` must be integers or class names; got ndarray"),
        (None, TypeError, "`labels` must be integers or class names; got None"),
    ],
)
def test_labels_that_are_no_class_are_refused_naming_the_value(labels, error, match):
    with pytest.raises(error, match=match):
        class_indices(labels, NAMES)
