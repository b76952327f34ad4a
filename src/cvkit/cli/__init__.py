"""The command line: parse, call one public function, write.

Each group of commands has a module that adds its parser and, once chosen, imports what it needs: ``cvkit --help`` stays
quick. A wrong argument or file gives one line on standard error and exit code 2, before anything is written.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

import cvkit
from cvkit.cli import _demo, _doctor, _explain, _gan, _imgops, _pose

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_GROUPS = (_doctor, _demo, _explain, _imgops, _gan, _pose)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        The exit code: 0 done, 2 a wrong argument or file, 130 stopped by Ctrl-C.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("cvkit: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output is gone (`cvkit doctor | head`); nothing is left to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if args.traceback or not _is_for_user(error):
            raise
        print(f"cvkit: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cvkit", description="Explain, landmark, generate and edit images.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"cvkit {cvkit.__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in _GROUPS:
        group.add_parser(commands)
    return parser


def _is_for_user(error: Exception) -> bool:
    """Say whether an error tells of a wrong argument or file, and so needs no traceback."""
    from cvkit._errors import CvkitError

    return isinstance(error, CvkitError | ValueError | TypeError | OSError | ModuleNotFoundError)
