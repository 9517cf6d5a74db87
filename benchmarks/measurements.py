"""Tables of measured values, their results as JSON, CPU and memory of processes.

    for round ─▶ for each contender, in turn ─▶ Table.add(row, column, value) ─▶ median (min to max)

Contenders take turns inside a round, so a machine that slows down slows all of them; only ratios are goals.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("aio-pika", "aiohttp", "pillow", "pydantic", "motor")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Table:
    """Values by row and column, one for each round; shown as their median with minimum and maximum."""

    title: str
    columns: tuple[str, ...]
    head: str = ""
    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, row: str, **values: float) -> None:
        """The values of one round; `_` in a name means a space."""
        into = self.rows.setdefault(row, {})
        for name, value in values.items():
            into.setdefault(name.replace("_", " "), []).append(value)

    def median(self, row: str, column: str) -> float:
        return statistics.median(self.rows[row][column])

    def ratios(self, row: str, over: str, column: str) -> list[float]:
        """Of this row over the other, round by round."""
        pairs = zip(self.rows[row][column], self.rows[over][column], strict=True)
        return [value / other for value, other in pairs]

    def markdown(self) -> str:
        lines = [f"| {self.head} | {' | '.join(self.columns)} |", "|---" + "|---:" * len(self.columns) + "|"]
        for row, values in self.rows.items():
            lines.append(f"| {row} | " + " | ".join(shown(values.get(column, [])) for column in self.columns) + " |")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        return {"title": self.title, "columns": self.columns, "head": self.head, "rows": self.rows}


def shown(values: list[float]) -> str:
    """`12.3 (11.8 to 14.1)`; a single value without a range."""
    if not values:
        return "–"
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.median(values))} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """Rounded to about three significant figures."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if 0.99 <= value < 1:
        return f"{value:.3f}"  # a share of almost 1 is not 1.00
    return f"{value:.2g}" if abs(value) < 0.1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def save_results(name: str, tables: list[Table], **parameters: object) -> None:
    """Print the tables and write them with the machine and versions to `results/<name>.json`."""
    for table in tables:
        print(f"\n{table.title}\n\n{table.markdown()}")
    RESULTS.mkdir(exist_ok=True)
    result = {
        "name": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": parameters,
        "machine": machine(),
        "versions": versions(),
        "load": os.getloadavg(),
        "tables": [table.as_json() for table in tables],
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1))
    print(f"\nwritten: benchmarks/results/{path.name}; load {os.getloadavg()[0]:.1f}", flush=True)


def arguments(what: str, *, size: int, rounds: int) -> argparse.Namespace:
    """`--size` and `--rounds` of a benchmark, with its defaults."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--size", type=int, default=size, help=f"default {size}")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default {rounds}")
    return parser.parse_args()


def report_progress(text: str) -> None:
    """Print progress to standard error, apart from the tables."""
    print(f"  {text}", file=sys.stderr, flush=True)


# -- the machine


def machine() -> dict[str, object]:
    text = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    system = next(
        (
            line.split("=", 1)[1].strip('"')
            for line in Path("/etc/os-release").read_text().splitlines()
            if line.startswith("PRETTY_NAME")
        ),
        "",
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kib / 2**20),
        "system": system,
        "kernel": platform.release().partition("-")[0],
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def raise_open_files() -> None:
    """Let this process and those it starts open as many files as the system allows: each socket is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# -- what processes use


def family(*pids: int) -> list[int]:
    """The processes and their descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(stat[1]), []).append(int(entry.name))
    found, waiting = [], list(set(pids))
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting.extend(parents.get(one, []))
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of these processes and their descendants, to a hundredth."""
    total = 0
    for pid in set(family(*pids)):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, stat[11:15]))  # its own, and those of children that have ended
    return total / TICKS


def memory_mib(pids: Iterable[int], *, what: str = "VmHWM") -> float:
    """Sum over the processes and their descendants: resident now (`VmRSS`), or the peak so far (`VmHWM`)."""
    total = 0
    for pid in set(family(*pids)):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(what))
    return total / 1024


def pss_mb(pids: Iterable[int]) -> float:
    """Sum of the proportional set sizes: a page that several processes share counts for each of them in part."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def machine_cpu_s() -> float:
    """CPU seconds of all processes of the machine, as a share of its cores, since its start."""
    values = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(values) - values[3] - values[4]) / TICKS / (os.cpu_count() or 1)  # not idle, nor waiting for a disk


class CpuUsage:
    """CPU seconds of groups of processes, by name, since it was made."""

    def __init__(self, groups: Mapping[str, Iterable[int]]) -> None:
        self._groups = {name: list(pids) for name, pids in groups.items()}
        self._before = {name: cpu_s(pids) for name, pids in self._groups.items()}
        self._started = time.perf_counter()

    def spent(self) -> dict[str, float]:
        return {name: cpu_s(pids) - self._before[name] for name, pids in self._groups.items()}

    @property
    def wall_s(self) -> float:
        return time.perf_counter() - self._started
