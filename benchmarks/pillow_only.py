"""The upper limit of the pipeline benchmark: Pillow without a queue.

`python -m benchmarks.pillow_only FILE FOLDER` reads lines `START COUNT` and answers each when it is done. It does the
same check, thumbnail and durable files as the others, without queue, fetch and row. Two threads, as in a generator.
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
