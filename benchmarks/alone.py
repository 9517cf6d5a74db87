"""The limit: Pillow alone. `python -m benchmarks.alone FILE FOLDER`, then lines `START COUNT`, each answered when done.

The same check, thumbnail and durable files as all others; no queue, no fetch, no row. Two threads, as a generator has.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import job

if __name__ == "__main__":
    file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    with ThreadPoolExecutor(2) as threads:
        print("ready", flush=True)
        for line in sys.stdin:
            start, count = map(int, line.split())
            content = file.read_bytes()
            names = [f"{number:08d}" for number in range(start, start + count)]
            list(threads.map(lambda name: job.keep(content, folder, name), names))  # noqa: B023 - done within the round
            print("ok", flush=True)
