"""All benchmarks, one after the other, then the tables and plots of `docs/performance.md`: what `make bench` runs.

Each is a process of its own, so that none finds the memory of another.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks import report
from benchmarks.measuring import say

PARTS = ("pipeline", "api", "live", "purge", "start", "growth")

if __name__ == "__main__":
    began = time.monotonic()
    for part in PARTS:
        say(f"{part}, at {time.monotonic() - began:.0f} s")
        subprocess.run([sys.executable, "-m", f"benchmarks.{part}", *sys.argv[1:]], check=True)
    report.main()
    say(f"all in {(time.monotonic() - began) / 60:.0f} min")
