"""The command line: parse, call one public function, write."""

from __future__ import annotations

import argparse

import cvkit

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="cvkit", description=cvkit.__doc__)
    parser.add_argument("--version", action="version", version=f"cvkit {cvkit.__version__}")
    parser.parse_args(argv)
    return 0
