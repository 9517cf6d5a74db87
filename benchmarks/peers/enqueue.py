"""`python -m benchmarks.peers.enqueue MODULE`: enqueues jobs for each line `START COUNT`, answers `ok`.

The process stays, so that no import is measured.
"""

from __future__ import annotations

import sys
from importlib import import_module

if __name__ == "__main__":
    peer = import_module(f"benchmarks.peers.{sys.argv[1]}")
    print("ready", flush=True)
    for line in sys.stdin:
        start, count = map(int, line.split())
        peer.enqueue([f"{number:08d}" for number in range(start, start + count)])
        print("ok", flush=True)
