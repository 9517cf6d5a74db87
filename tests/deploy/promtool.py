"""The alert rules of deploy/prometheus, evaluated by promtool over what services have served.

    /metrics of all services, while all is well ──▶ 30 minutes of it
                          twice, while it is not ──▶ hours that go on alike ──▶ promtool ──▶ which alerts fire when

A gauge stays as it was served last, an age that grew from the first time to the second grows on, and a counter grows in
each minute as it did by the trouble. Prometheus adds the label `instance`; so do we.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
PROMTOOL = ROOT / ".tools/prometheus/promtool"
RULES_FILE = ROOT / "deploy/prometheus/alerts.yml"
WELL = 30  # minutes
UNWELL = 240
ALL = 'count by (alertname) (ALERTS{alertstate="firing"})'


@dataclass(frozen=True)
class Scrape:
    """The samples of all services that have answered, by name and labels, with the type of each name."""

    at: float
    samples: dict[str, float] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float | None:
        """The largest sample of this name; None without one. The name may have labels: `darkroom_x{pool="a"}`."""
        wanted, _, labels = name.rstrip("}").partition("{")
        found = [
            value
            for key, value in self.samples.items()
            if key.partition("{")[0] == wanted and labels in key.partition("{")[2]
        ]
        return max(found, default=None)


async def scrape(targets: Mapping[str, str]) -> Scrape:
    """What Prometheus gets now from these URLs, by the name of the instance."""
    found = Scrape(time.time())
    async with aiohttp.ClientSession() as http:
        for text, instance in zip(
            await asyncio.gather(*(_text(http, url) for url in targets.values())), targets, strict=True
        ):
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if not sample.name.startswith("darkroom_"):
                        continue
                    labels = {**sample.labels, "instance": instance}
                    inside = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(labels.items()))
                    found.samples[f"{sample.name}{{{inside}}}"] = sample.value
                    found.types[sample.name] = family.type
    return found


async def _text(http: aiohttp.ClientSession, url: str) -> str:
    try:
        async with http.get(url, timeout=aiohttp.ClientTimeout(total=5)) as response:
            return await response.text() if response.status == 200 else ""
    except (aiohttp.ClientError, TimeoutError, OSError):
        return ""


def firing(folder: Path, well: Scrape, unwell: Sequence[Scrape], minutes: Sequence[int]) -> list[set[str]]:
    """The alerts that fire after these minutes; the trouble begins after `WELL` minutes."""
    tests = {
        "rule_files": [str(RULES_FILE)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": _values(name, well, unwell)}
                    for name in sorted({*well.samples, *unwell[-1].samples})
                ],
                "promql_expr_test": [
                    # that no alert has this name makes promtool say which there are
                    {"expr": ALL, "eval_time": f"{minute}m", "exp_samples": [{"labels": '{a="none"}', "value": 1}]}
                    for minute in minutes
                ],
            }
        ],
    }
    file = folder / "alerts-test.yml"
    file.write_text(yaml.safe_dump(tests))
    done = subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True, check=False)
    answers = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip().startswith("got:")]
    assert len(answers) == len(minutes), done.stdout + done.stderr
    return [_names(answer) for answer in answers]


def _names(answer: str) -> set[str]:
    return {part.partition('"')[0] for part in answer.split('alertname="')[1:]}


def _values(name: str, well: Scrape, unwell: Sequence[Scrape]) -> str:
    before, after = well.samples.get(name), unwell[-1].samples.get(name)
    metric = name.partition("{")[0]
    if metric.endswith("_timestamp_seconds"):  # promtool begins at the year 1970
        before = None if before is None else before - well.at
        moved = unwell[-1].samples.get(name) != unwell[0].samples.get(name)
        after = None if after is None else after - unwell[-1].at + 60 * WELL
        return f"{_constant(before, WELL, growth=60)} {_constant(after, UNWELL, growth=60 if moved else 0)}"
    if well.types.get(metric) == "counter" or unwell[-1].types.get(metric) in {"counter", "histogram"}:
        growth = (after or 0.0) - (before or 0.0)
        return f"{_constant(before, WELL)} {_constant(after, UNWELL, growth=growth)}"
    earlier = unwell[0].samples.get(name)
    grows = metric.endswith("_age_seconds") and earlier is not None and after is not None and after > earlier
    return f"{_constant(before, WELL)} {_constant(after, UNWELL, growth=60 if grows else 0)}"


def _constant(value: float | None, minutes: int, *, growth: float = 0.0) -> str:
    """So many values a minute apart; a missing one is stale, as after a scrape without it."""
    if value is None:
        return f"stale _x{minutes - 1}"
    return f"{value:.3f}{growth:+.3f}x{minutes - 1}"
