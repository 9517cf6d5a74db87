"""`python -m benchmarks.report`: writes the results into `docs/performance.md` with its plots.

Reads `results/*.json`. It replaces only the text between `<!-- NAME -->` and `<!-- end NAME -->`: tables, goals and
machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import charts, crowds
from benchmarks.measurements import RESULTS, Table, shown
from benchmarks.pipeline import DARKROOM, PEERS, PILLOW

DOCS = Path(__file__).parent.parent / "docs"
LOCK = DOCS.parent / "requirements" / "bench.txt"
PAGE = DOCS / "performance.md"
PLOTS = DOCS / "performance"
NAMES = ("pipeline", "api", "live", "purge", "start", "growth", "fleet")
Tables = dict[str, list[Table]]
Goal = tuple[str, str, float, bool, list[float]]  # what, goal in words, limit, less is better, measured


def read() -> tuple[Tables, dict[str, dict[str, Any]]]:
    tables: Tables = {}
    results: dict[str, dict[str, Any]] = {}
    for name in NAMES:
        path = RESULTS / f"{name}.json"
        if path.exists():
            results[name] = json.loads(path.read_text())
            tables[name] = [Table(**{**each, "columns": tuple(each["columns"])}) for each in results[name]["tables"]]
    return tables, results


# -- goals

LIVE_GOAL = 75_000  # deliveries
GROWING = ("reconcile, no turn to give", "figures of the status page")  # with what waits: docs/performance.md says why
SATURATED_MS = 200  # an image takes 25 ms (JPEG) to 110 ms (noisy PNG)


def goals(found: Tables, results: dict[str, dict[str, Any]]) -> str:
    lines = ["| figure | goal | measured | verdict | load |", "|---|---|---|---|---:|"]
    for name, of in _GOALS.items():
        for what, goal, limit, at_most, values in of(found[name]) if name in found else ():
            # a part that was measured in two runs has the load of the second run in its parameters
            load = results[name]["parameters"].get(f"{what.partition(' ')[0]} load", results[name]["load"][0])
            lines.append(f"| {what} | {goal} | {shown(values)} | {verdict(values, limit, at_most)} | {load:.0f} |")
    return "\n".join(lines)


def verdict(measured: list[float], limit: float, is_at_most: bool) -> str:
    """Met or not met if every round agrees, else undecided."""
    if not measured:
        return "none: more was requested than two cores can do"
    met = [value <= limit if is_at_most else value >= limit for value in measured]
    return "met" if all(met) else "undecided" if any(met) else "**not met**"


def _of_pipeline(tables: list[Table]) -> Iterator[Goal]:
    for table in tables[:3]:
        sample, ours = _sample(table), table.rows[DARKROOM]
        yield f"images/s over Pillow alone, {sample}", "≥ 0.85", 0.85, False, ours["over Pillow"]
        best = max(PEERS, key=lambda peer: table.median(peer, "images/s"))
        ratios = table.ratios(DARKROOM, best, "images/s")
        over_peer, over_pillow = (0.85, 1.2) if sample == "JPEG" else (1.0, 1.05)
        yield f"images/s over the best peer ({best}), {sample}", f"≥ {over_peer}", over_peer, False, ratios
        yield f"worker CPU over Pillow's own, {sample}", f"≤ {over_pillow}", over_pillow, True, ours["CPU over Pillow"]
    latency = tables[3].rows
    for row, values in latency.items():
        if "p50 more" in values:
            # with a growing queue, latency only shows the length of the queue
            if min(latency[row.replace("RabbitMQ", "one process")]["p50"]) > SATURATED_MS:
                values = {"p50 more": [], "p99 more": []}
            what = f"POST to completed over one process, {row.removesuffix(', RabbitMQ')}"
            yield f"{what}, p50", "≤ 4 ms more", 4, True, values["p50 more"]
            yield f"{what}, p99", "≤ 20 ms more", 20, True, values["p99 more"]


def _of_api(tables: list[Table]) -> Iterator[Goal]:
    requests, _, history = tables
    post = requests.rows["POST, 202"]
    yield "202 answer, RabbitMQ and SQLite, p50", "≤ 2.2 ms", 2.2, True, post["p50"]
    yield "202 answer, RabbitMQ and SQLite, p99", "≤ 5 ms", 5, True, post["p99"]
    for row in list(history.rows)[-3:-1]:
        yield f"history with total, {row}, p95", "≤ 5 ms", 5, True, history.rows[row]["p95"]


def _of_live(tables: list[Table]) -> Iterator[Goal]:
    measured = tables[0].rows["1,000 sockets"]["a second and a core"]
    yield "deliveries a second and a core, 1,000 sockets", "≥ 75,000", LIVE_GOAL, False, measured
    for table in tables[3:]:
        for name in (crowds.CROWD, crowds.WITH_DEAF):
            if name in table.rows:
                what = f"deliveries a second and a core, {name}"
                yield what, "≥ 75,000", LIVE_GOAL, False, table.rows[name][crowds.A_CORE]


def _of_purge(tables: list[Table]) -> Iterator[Goal]:
    for name, values in tables[0].rows.items():
        if name.startswith("purge"):
            limit = 0.6 if "RabbitMQ" in name else 0.8
            yield f"{name}: speed over bare unlink", f"≥ {limit}", limit, False, values["speed over unlink"]
            longest = values["longest write transaction, ms"]
            yield f"{name}: longest write transaction", "≤ 60 ms", 60, True, longest


def _of_growth(tables: list[Table]) -> Iterator[Goal]:
    for name, values in list(tables[0].rows.items())[3:]:
        if not name.startswith("0 "):
            yield f"cost an image, {name}, over 0", "≤ 1.1", 1.1, True, values["over 0"]
    for table in tables[1:]:
        for name, values in table.rows.items():
            if "CPU over" in values and name not in GROWING:
                yield (
                    f"{name}: cost in the filled store over an almost empty one",
                    "≤ 1.1",
                    1.1,
                    True,
                    values["CPU over"],
                )


def _of_fleet(tables: list[Table]) -> Iterator[Goal]:
    """Rows that were not measured have no goal."""
    use, cost, _, _, others, _ = (table.rows for table in tables)
    for row, limit in (("random, 120 %", 0.998), ("equal, 120 %", 0.95)):
        for name, values in use.items():
            if name.endswith(row) and (limit != 0.95 or name.startswith("300")):
                goal = 0.99 if name.startswith("4,000") else limit
                yield f"fleet, {name}: slot use", f"≥ {goal}", goal, False, values["slot use"]
    for name, values in use.items():
        if name.startswith("300") and name.endswith("random, 120 %"):
            yield f"fleet, {name}: gap of a slot, mean", "≤ 15 ms", 15, True, values["gap mean ms"]
            yield f"fleet, {name}: gap of a slot, p99", "≤ 60 ms", 60, True, values["gap p99 ms"]
    for name, values in cost.items():
        if name.startswith("1,000") and name.endswith("random, 120 %"):
            yield f"fleet, {name}: memory of a slot", "≤ 1.2 MB", 1.2, True, values["MB a slot (PSS)"]
    for name, values in others.items():
        if "orders" in name:
            what = f"fleet, {name}: wait of the others over without"
            yield what, "≤ 1.1", 1.1, True, values["mean over without"]


_GOALS: dict[str, Callable[[list[Table]], Iterator[Goal]]] = {
    "pipeline": _of_pipeline,
    "api": _of_api,
    "live": _of_live,
    "purge": _of_purge,
    "growth": _of_growth,
    "fleet": _of_fleet,
}


# -- plots


def plots(found: Tables) -> dict[str, str]:
    made: dict[str, str] = {}
    if "pipeline" in found:
        tables = found["pipeline"][:3]
        names = (PILLOW, *PEERS, DARKROOM)
        for file, column, title, goal in (
            ("throughput", "over Pillow", "Images a second over Pillow alone", 0.85),
            ("worker-cpu", "CPU over Pillow", "Worker CPU an image over Pillow's own", 1.15),
        ):
            series = {name: [table.rows[name][column] for table in tables] for name in names}
            made[file] = charts.bars(title, [_sample(table) for table in tables], series, unit="ratio", goal=goal)
    if "api" in found:
        history = found["api"][2]
        by_kind: dict[str, list[list[float]]] = {}
        counts: list[float] = []
        for row, values in history.rows.items():
            count, _, kind = row.rpartition(", ")
            by_kind.setdefault(kind, []).append(values["p95"])
            if (size := float(count.replace(",", ""))) not in counts:
                counts.append(size)
        made["history"] = charts.lines("History page with total, p95", counts, by_kind, unit="ms", goal=5)
    if "live" in found:
        rows = found["live"][0].rows
        series = {"deliveries": [values["a second and a core"] for values in rows.values()]}
        made["live"] = charts.bars(
            "Deliveries a second and a core of the api", list(rows), series, unit="a second", goal=LIVE_GOAL
        )
    if "purge" in found:
        rows = found["purge"][0].rows
        series = {name: [values["images/s"]] for name, values in rows.items()}
        title = "Images cleared away a second"
        made["purge"] = charts.bars(title, [found["purge"][0].title], series, unit="images/s")
    if "growth" in found:
        rows = {name: values for name, values in found["growth"][0].rows.items() if name.endswith("record")}
        counts = [float(name.split()[0].replace(",", "")) for name in rows]
        series = {
            column: [values[column] for values in rows.values()]
            for column in ("services' CPU ms/image", "generators' CPU ms/image", "broker's CPU ms/image")
        }
        made["growth"] = charts.lines("Cost of an image beside those on record", counts, series, unit="CPU ms")
    return made


def _sample(table: Table) -> str:
    return table.title.removeprefix("Pipeline, ").partition(":")[0]


# -- the page


def machine(results: dict[str, dict[str, Any]]) -> str:
    one = next(iter(results.values()))
    where, versions = one["machine"], one["versions"]
    peers = re.findall(r"^(arq|celery|dramatiq|taskiq|taskiq-aio-pika)==(\S+)", LOCK.read_text(), re.MULTILINE)
    versions = {**versions, **dict(peers)}
    lines = [
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB, {where['system']}, "
        f"Linux {where['kernel']}. " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "",
        "| part | size and rounds | load average at its end |",
        "|---|---|---|",
    ]
    for name, result in results.items():
        parameters = ", ".join(f"{key} {value:,}" for key, value in result["parameters"].items())
        lines.append(f"| {name} | {parameters} | {result['load'][0]:.1f} |")
    return "\n".join(lines)


def fill(page: str, name: str, text: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page)


def main() -> None:
    found, results = read()
    PLOTS.mkdir(exist_ok=True)
    for name, svg in plots(found).items():
        (PLOTS / f"{name}.svg").write_text(svg)
    page = PAGE.read_text()
    sections: dict[str, Callable[[], str]] = {
        "goals": lambda: goals(found, results),
        "machine": lambda: machine(results),
    }
    for name, text in sections.items():
        page = fill(page, name, text())
    for name, tables in found.items():
        page = fill(page, name, "\n\n".join(f"**{table.title}**\n\n{table.markdown()}" for table in tables))
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
