"""Run the command line as ``python -m cvkit``."""

import sys

from cvkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
