"""The dashboard and the alerts name metrics that exist, with labels that they have."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY, CollectorRegistry

from common.application.operation.exposition import FiguresCollector
from common.application.operation.figures import Figures, MediaFigures, PoolFigures, QueueFigures
from common.runtime import metrics
from common.runtime.clock import ManualClock

ROOT = Path(__file__).parents[2]
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS = json.loads((ROOT / "deploy/grafana/darkroom.json").read_text())["panels"]
QUERIES = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]]
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
OF_PROMETHEUS = {"le"}


def figures_registry() -> CollectorRegistry:
    """What a janitor serves that has gathered everything."""
    clock = ManualClock()
    now = clock.now()
    collector = FiguresCollector()
    figures = Figures(
        gathered_at=now,
        queues={"image.work.default": QueueFigures(messages=1, oldest_sent_at=now)},
        pools={"default": PoolFigures()},
        dead_letters=0,
        next_purge=now + timedelta(hours=1),
        media=MediaFigures(files=1, bytes=1, counted_at=now),
    )
    collector.show(figures, clock)
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def served() -> dict[str, set[str]]:
    """The names of all samples, with their labels."""
    found: dict[str, set[str]] = {}
    for registry in (REGISTRY, figures_registry()):
        for family in registry.collect():
            labels = {label for sample in family.samples for label in sample.labels}
            found |= {family.name + suffix: labels for suffix in SUFFIXES.get(family.type, ())}
    declared = (each for each in vars(metrics).values() if hasattr(each, "_labelnames"))
    for metric in declared:  # one that was never used has no sample, but its labels
        found |= {metric._name + suffix: set(metric._labelnames) for suffix in SUFFIXES[metric._type]}
    return found


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_names_what_is_served(query):
    known = served()
    used = set(re.findall(r"darkroom_\w+", query))
    labels = {name for group in re.findall(r"by \(([^)]*)\)", query) for name in re.split(r",\s*", group)}
    labels |= set(re.findall(r'(\w+)(?:!=|=~|=)"', query))

    assert used
    assert used - known.keys() == set()
    assert labels - OF_PROMETHEUS <= set().union(*(known[name] for name in used))


def test_each_figure_is_on_the_dashboard():
    shown = set(re.findall(r"darkroom_\w+", " ".join(QUERIES)))
    names = {family.name for family in figures_registry().collect()}

    assert names - shown == {"darkroom_media_age_seconds"}


def test_each_alert_has_a_line_in_the_runbook():
    runbook = (ROOT / "docs/operating.md").read_text()

    for rule in RULES:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (page, anchor) == ("docs/operating.md", rule["alert"].lower())
        assert f'<a id="{anchor}"></a>`{rule["alert"]}` | ' in runbook
        assert rule["for"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
