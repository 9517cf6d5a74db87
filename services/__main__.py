"""`python -m services` is `darkroom up`; with arguments, it is `darkroom`."""

from __future__ import annotations

import sys

from services.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["up"]))
