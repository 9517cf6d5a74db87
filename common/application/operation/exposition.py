"""The figures of the deployment as Prometheus metrics; a process that gathers none shows none.

A figure is a gauge of the whole deployment: every janitor shows the same, so queries take `max`, not `sum`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import REGISTRY, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from common.application.operation.figures import Figures, MediaFigures
from common.runtime.clock import Clock

PREFIX: Final = "darkroom_"


class FiguresCollector(Collector):
    """Shows the figures that were given to it last, with their age when they are asked for."""

    def __init__(self) -> None:
        self._shown: tuple[Figures, Clock, float, float] | None = None

    def show(self, figures: Figures, clock: Clock) -> None:
        """Show these figures; shown again unchanged, they keep growing older."""
        if self._shown is None or self._shown[0] != figures:
            age_s = max(0.0, (clock.now() - figures.gathered_at).total_seconds())
            self._shown = figures, clock, clock.monotonic(), age_s

    def clear(self) -> None:
        self._shown = None

    def describe(self) -> Iterable[Metric]:
        return ()  # their names are not known to other processes, which show none

    def collect(self) -> Iterator[Metric]:
        if self._shown is None:
            return
        figures, clock, shown_s, age_s = self._shown
        # a clock that is set back makes nothing younger
        age_s = max(age_s + clock.monotonic() - shown_s, (clock.now() - figures.gathered_at).total_seconds())
        yield _one("figures_age_seconds", "Age of the figures of queues, records and media", age_s)
        yield from _of_queues(figures, age_s)
        yield from _of_pools(figures)
        yield _one("images_lined_up", "Images that wait for their turn, of all owners", figures.lined_up)
        yield _one("pending_events", "Events that are still to be published", figures.pending_events)
        if figures.dead_letters is not None:
            yield _one("dead_letters", "Messages that could not be handled", figures.dead_letters)
        if figures.next_purge is not None:
            yield _one(
                "next_purge_timestamp_seconds", "When old images are purged next", figures.next_purge.timestamp()
            )
        if figures.media is not None:
            yield from _of_media(figures.media, clock)


shown_figures: Final = FiguresCollector()
REGISTRY.register(shown_figures)


def _of_queues(figures: Figures, age_s: float) -> Iterator[Metric]:
    depths = {name: queue.messages for name, queue in figures.queues.items()}
    yield _labelled("queue_messages", "Messages that wait in a work queue or for a retry", "queue", depths)
    ages = {
        name: max(0.0, (figures.gathered_at - queue.oldest_sent_at).total_seconds()) + age_s
        for name, queue in figures.queues.items()
        if queue.oldest_sent_at is not None
    }
    yield _labelled("queue_oldest_age_seconds", "Time since the oldest command of a queue was sent", "queue", ages)


def _of_pools(figures: Figures) -> Iterator[Metric]:
    pools = figures.pools
    rows: Sequence[tuple[str, str, Mapping[str, float]]] = (
        ("images_queued", "Dispatched images that no generator has started", {p: f.queued for p, f in pools.items()}),
        ("images_running", "Images that a generator works on", {p: f.running for p, f in pools.items()}),
        ("images_unsent", "Dispatched images whose command is not sent", {p: f.unsent for p, f in pools.items()}),
        ("generators", "Generators that are alive", {p: f.generators for p, f in pools.items()}),
        (
            "owners_without_generator",
            "Owners with images that wait because no generator of the pool is alive",
            {p: f.owners_without_generator for p, f in pools.items()},
        ),
    )
    for name, text, values in rows:
        yield _labelled(name, text, "pool", values)


def _of_media(media: MediaFigures, clock: Clock) -> Iterator[Metric]:
    yield _one("media_bytes", "Size of all files of the media folder", media.bytes)
    yield _one("media_files", "Number of all files of the media folder", media.files)
    age_s = max(0.0, (clock.now() - media.counted_at).total_seconds())
    yield _one("media_age_seconds", "Time since the files were counted", age_s)


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
