from __future__ import annotations

import numpy as np
import pytest
import torch

from cvkit._checks import check_choice, check_finite, check_instance, check_integer, check_interval, check_size, shown
from cvkit._errors import CheckpointError, CvkitError, DataError, ImageError, WeightsError


@pytest.mark.parametrize(("value", "text"), [
    (3, "3"), ("a", "'a'"), (np.zeros((2, 3), np.uint8), "ndarray of shape (2, 3) and dtype uint8"),
    (torch.zeros(2, 1), "Tensor of shape (2, 1) and dtype torch.float32"),
])  # fmt: skip
def test_values_are_shown_briefly(value, text):
    assert shown(value) == text


def test_long_values_are_cut():
    text = shown("x" * 1000)
    assert len(text) == 80
    assert text.endswith("...")


def test_choices_are_listed():
    assert check_choice("mode", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match="`mode` must be one of 'a', 'b'; got 'c'"):
        check_choice("mode", "c", ("a", "b"))
    # Values without a hash, among choices that are looked up by theirs.
    with pytest.raises(ValueError, match="`mode` must be one of"):
        check_choice("mode", ["a"], {"a": 1})


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_integers_of_every_kind_become_python_integers(value):
    found = check_integer("n", value, minimum=3, maximum=3)
    assert type(found) is int
    assert found == 3


@pytest.mark.parametrize("value", [True, 3.0, "3", None, np.float64(3), torch.tensor(3.0)])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(TypeError, match="`n` must be an integer; got"):
        check_integer("n", value)


def test_integers_out_of_bounds_name_the_bound():
    with pytest.raises(ValueError, match="`n` must be at least 1; got 0"):
        check_integer("n", 0, minimum=1)
    with pytest.raises(ValueError, match="`n` must be at most 5; got 6"):
        check_integer("n", 6, maximum=5)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), torch.tensor(2.0)])
def test_numbers_of_every_kind_become_python_floats(value):
    found = check_finite("x", value)
    assert type(found) is float
    assert found == 2


@pytest.mark.parametrize("value", [True, "2", b"2", None, [2.0], 2j, torch.zeros(2)])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match="`x` must be a number; got"):
        check_finite("x", value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_must_be_finite(value):
    with pytest.raises(ValueError, match="`x` must be finite"):
        check_finite("x", value)


@pytest.mark.parametrize(("value", "options", "inside"), [
    (0, {}, True), (1, {}, True), (1.01, {}, False), (0, {"low_open": True}, False), (1, {"high_open": True}, False),
    (0.5, {"low_open": True, "high_open": True}, True),
])  # fmt: skip
def test_intervals_are_closed_unless_said_otherwise(value, options, inside):
    if inside:
        assert check_interval("x", value, 0, 1, **options) == value
    else:
        with pytest.raises(ValueError, match="`x` must lie in"):
            check_interval("x", value, 0, 1, **options)


@pytest.mark.parametrize(("bounds", "options", "text"), [
    ((0, 1), {}, r"\[0, 1\]"), ((0, 1), {"low_open": True, "high_open": True}, r"\(0, 1\)"),
    ((5,), {}, r"\[5, inf\)"), ((-float("inf"), -5), {}, r"\(-inf, -5\]"),
])  # fmt: skip
def test_intervals_are_written_as_in_mathematics(bounds, options, text):
    with pytest.raises(ValueError, match=text):
        check_interval("x", 2, *bounds, **options) if bounds != (0, 1) else check_interval("x", 3, *bounds, **options)


@pytest.mark.parametrize("value", [(2, 3), [2, 3], np.array([2, 3]), torch.tensor([2, 3]), torch.Size([2, 3])])
def test_sizes_of_every_kind_become_height_and_width(value):
    assert check_size("size", value) == (2, 3)


@pytest.mark.parametrize(("value", "error", "text"), [
    (5, TypeError, "two integers"), ("23", TypeError, "two integers"), (None, TypeError, "two integers"),
    ((1, 2, 3), ValueError, "two integers"), ((0, 1), ValueError, r"`size\[0\]` must be at least 1; got 0"),
    ((1, 2.5), TypeError, r"`size\[1\]` must be an integer; got 2.5"),
])  # fmt: skip
def test_wrong_sizes_are_named(value, error, text):
    with pytest.raises(error, match=text):
        check_size("size", value)


def test_instances_are_described():
    assert check_instance("x", 3, int) == 3
    with pytest.raises(TypeError, match="`x` must be a name; got 3"):
        check_instance("x", 3, str, "a name")
    with pytest.raises(TypeError, match="`x` must be str; got 3"):
        check_instance("x", 3, str)


@pytest.mark.parametrize("error", [ImageError, DataError, WeightsError, CheckpointError])
def test_errors_about_files_have_one_base(error):
    assert issubclass(error, CvkitError)
    assert not issubclass(error, ValueError | OSError)
