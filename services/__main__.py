"""`python -m services`: the `darkroom` command, or `darkroom up` without arguments."""

from __future__ import annotations

import sys

from services.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["up"]))
