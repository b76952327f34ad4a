"""Profiles, markers and fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# A shell without job control starts background jobs with SIGINT ignored, and so would the tests of signals begin.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hypothesis selects its built-in profile `ci` (derandomised, no deadline) by itself where CI is set.
settings.register_profile("dev", deadline=None, max_examples=30, print_blob=True)
settings.register_profile(
    "explore", deadline=None, max_examples=1000, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
if "HYPOTHESIS_PROFILE" in os.environ:
    settings.load_profile(os.environ["HYPOTHESIS_PROFILE"])
elif not os.environ.get("CI"):
    settings.load_profile("dev")


def _settle_torch() -> None:
    """Seed torch, whatever ran before, and keep it on one thread: sums differ in their last bits between counts."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    torch.manual_seed(0)
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def _settled_fixtures() -> None:
    """Settle torch before the fixtures of a module are made, which come before its first test."""
    _settle_torch()


@pytest.fixture(autouse=True)
def _settled_tests() -> None:
    """Settle torch before each test."""
    _settle_torch()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of small real data beside the repository; a test that asks for it is skipped where it is not there."""
    folder = Path(os.environ.get("CVKIT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data here (set CVKIT_DATA to a folder that holds it)")
    return folder
