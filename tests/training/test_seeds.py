from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkit import training

KEYS = st.tuples(st.integers(-(2**70), 2**70), st.integers(0, 2**40), st.text(max_size=8))


@given(KEYS, KEYS)
def test_seeds_are_equal_exactly_where_seed_step_and_purpose_are(a, b):
    assert 0 <= training.derive_seed(*a) < 2**63
    assert (training.derive_seed(*a) == training.derive_seed(*b)) == (a == b)


def test_the_seed_of_a_release_stays_the_seed():
    assert training.derive_seed(0, 0, "latents") == DERIVED[0]
    assert training.derive_seed(-5, 10**9, "") == DERIVED[1]


def test_keys_that_read_alike_when_joined_differ():
    assert training.derive_seed(1, 2, "3/4") != training.derive_seed(1, 23, "/4")
    assert training.derive_seed(1, 11, "x") != training.derive_seed(11, 1, "x")


def test_generators_repeat_and_leave_the_global_one_alone():
    before = torch.get_rng_state()
    a = torch.randn(5, generator=training.generator(3, 7, "noise"))
    b = torch.randn(5, generator=training.generator(3, 7, "noise"))
    c = torch.randn(5, generator=training.generator(3, 7, "other"))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_streams_of_neighbouring_steps_are_uncorrelated():
    draws = torch.stack([torch.randn(400, generator=training.generator(0, step, "z")) for step in range(60)])
    correlation = torch.corrcoef(draws).fill_diagonal_(0)
    assert correlation.abs().max() < 0.25  # 5 standard errors of 1 / sqrt(400)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((0.5, 0, "a"), TypeError, "`seed`"),
        ((0, -1, "a"), ValueError, "`step` must be at least 0"),
        ((0, 0, b"a"), TypeError, "`purpose`"),
    ],
)
def test_bad_keys_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        training.derive_seed(*arguments)


DERIVED = (2229902703335885037, 8554525708281146078)
