"""`make bench`: runs every benchmark, then writes the tables of `docs/performance.md`.

Each benchmark is a process of its own, so its memory starts empty.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks import report
from benchmarks.measurements import report_progress

PARTS = ("pipeline", "api", "live", "purge", "start", "growth")

if __name__ == "__main__":
    began = time.monotonic()
    for part in PARTS:
        report_progress(f"{part}, at {time.monotonic() - began:.0f} s")
        subprocess.run([sys.executable, "-m", f"benchmarks.{part}", *sys.argv[1:]], check=True)
    report.main()
    report_progress(f"all in {(time.monotonic() - began) / 60:.0f} min")
