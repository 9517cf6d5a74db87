"""The checker of the promises: compares store, media, broker and event log after a round.

Each violation is a line that names the image. It checks the promises of docs/reliability.md:

    every accepted order is on record and final, within its deadline
    one record, one file, one thumbnail, one terminal event for each image
    no file without a record, no record without its files
    a deleted image stays deleted
    all queues are empty, those of retries and dead letters included
"""

from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import aio_pika
from aio_pika.exceptions import ChannelNotFoundEntity

from common.bus.connect import open_bus
from common.bus.port import DeadLetter, Since
from common.bus.rabbitmq.topology import DEAD_QUEUE, Topology, pool_queue
from common.domain.images import Image, Status, new_image_id
from common.domain.transitions import WORKER_LOST
from common.messages import ApiJoined
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings
from common.store.connect import open_store
from common.store.port import Store
from tests.media_folder import files_in, media_of
from tests.waiting import until

POOLS = ("flux",)  # besides `default`, in these tests
TERMINAL = {"image.completed", "image.failed", "image.cancelled"}
OWNER = "local"
FOREIGN_MARK = "unwanted-"  # in the body of each foreign message that asks for no image; a number follows
PAGE = 1000
MAX_LETTERS = 10_000


@dataclass
class ShownEvents:
    """The events that an owner's websocket showed: a count for each terminal event and each delete."""

    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    gaps: int = 0


@dataclass
class Findings:
    """The records found, with all violations."""

    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    records: dict[str, Image] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        return [*self.lost, *self.duplicates, *self.orphans, *self.others]

    def by_status(self) -> Counter[str]:
        return Counter("deleted" if image.deleted_at else image.status.value for image in self.records.values())


async def check(
    settings: Settings,
    *,
    accepted: Collection[str],
    deleted: Collection[str] = (),
    shown: ShownEvents | None = None,
    painted: Mapping[str, int] | None = None,
    deadline_s: float = 900,
    dead_letters: int = 0,
) -> Findings:
    """Check everything once all work is done; `accepted` and `deleted` are images that the api has confirmed."""
    found = Findings(records=await records_in(settings, accepted))
    _check_records(found, accepted, deleted, timedelta(seconds=deadline_s))
    _check_files(found, files_in(media_of(settings)))
    in_log = await _terminal_events(settings)
    _check_events(found, in_log, "the event log", at_most=None)
    if shown is not None:
        _check_events(found, shown.events, "a websocket", at_most=1)
        if shown.gaps:
            found.others.append(f"the websocket showed {shown.gaps} gaps")
    for image_id, times in (painted or {}).items():
        if times > 1:
            found.duplicates.append(f"{image_id} was painted {times} times")
    await _check_queues(found, settings, dead_letters)
    return found


async def until_quiet(settings: Settings, limit_s: float = 30) -> None:
    """Wait until all records are settled, and all queues but that of dead letters are empty. TimeoutError if not."""
    async with open_store(settings.store_url, timeout_s=10) as store:

        async def is_quiet() -> bool:
            lengths = await queue_lengths(settings)
            return await _is_settled(store) and not any(lengths[name] for name in lengths if name != DEAD_QUEUE)

        await until(is_quiet, limit_s=limit_s, pause_s=0.2)


async def until_settled(settings: Settings) -> None:
    """Wait until no record has pending work, whatever the queues hold."""
    async with open_store(settings.store_url, timeout_s=10) as store:
        await until(lambda: _is_settled(store))


async def _is_settled(store: Store) -> bool:
    """True if no image is open, no event is pending and every deleted image is a tombstone."""
    ever = datetime(2100, 1, 1, tzinfo=UTC)
    return not (
        await store.count_history(OWNER, {Status.QUEUED, Status.RUNNING})
        or await store.pending_events(since_before=ever, limit=1)
        or await store.awaiting_tombstone(deleted_before=ever, limit=1)
    )


async def records_in(settings: Settings, accepted: Collection[str]) -> dict[str, Image]:
    """All that the owner has, and whatever is left of the accepted ones."""
    async with open_store(settings.store_url, timeout_s=10) as store:
        known = list(accepted)
        records: dict[str, Image] = {}
        for start in range(0, len(known), PAGE):
            records |= await store.get_several(known[start : start + PAGE])
        shown = await store.history(OWNER, set(Status), limit=1_000_000)
        return records | {image.id: image for image in shown}


def _check_records(found: Findings, accepted: Collection[str], deleted: Collection[str], deadline: timedelta) -> None:
    for image_id in accepted:
        if image_id not in found.records and image_id not in deleted:
            found.lost.append(f"{image_id} was accepted and is not on record")
    for image in found.records.values():
        if not image.status.is_final:
            found.lost.append(f"{image.id} is {image.status} still, attempt {image.attempts}: {_held(image)}")
        elif image.finished_at is None or image.finished_at > image.created_at + deadline + timedelta(seconds=10):
            found.lost.append(f"{image.id} was final only at {image.finished_at}, ordered at {image.created_at}")
        if image.pending_event is not None:
            found.others.append(f"{image.id} has a pending event {image.pending_event.type}")
        if image.deleted_at is not None and image.tombstoned_at is None:
            found.others.append(f"{image.id} is deleted and has no tombstone")
        if image.id in deleted and image.deleted_at is None:
            found.others.append(f"{image.id} was deleted and is back, {image.status}")


def _held(image: Image) -> str:
    return f"sent_at {image.sent_at}, not_before {image.not_before}, lease {image.lease}"


def _check_files(found: Findings, files: set[str]) -> None:
    expected: Counter[str] = Counter()
    for image in found.records.values():
        if image.status is Status.COMPLETED and image.deleted_at is None:
            keys = [key for key in (image.image_file, image.thumbnail) if key]
            expected.update(keys)
            missing = [key for key in keys if key not in files]
            if len(keys) != 2 or missing:
                found.orphans.append(f"the record {image.id} lacks {missing or 'a picture or thumbnail'}")
    found.orphans.extend(f"the file {key} belongs to no record" for key in sorted(files - set(expected)))
    found.duplicates.extend(
        f"the file {key} belongs to {count} records" for key, count in expected.items() if count > 1
    )


def _check_events(found: Findings, events: Counter[tuple[str, str]], where: str, *, at_most: int | None) -> None:
    kinds: dict[str, list[str]] = {}
    for (image_id, kind), times in events.items():
        kinds.setdefault(image_id, []).append(kind)
        if at_most is not None and times > at_most:
            found.duplicates.append(f"{where} showed {kind} of {image_id} {times} times")
    for image in found.records.values():
        shown = kinds.get(image.id, [])
        terminal = [kind for kind in shown if kind in TERMINAL]
        if len(terminal) > 1:
            found.duplicates.append(f"{where} showed {' and '.join(terminal)} of {image.id}")
        if image.deleted_at is not None:
            if "image.deleted" not in shown:
                found.lost.append(f"{where} never showed that {image.id} was deleted")
        elif terminal != [f"image.{image.status}"] and image.status.is_final:
            found.lost.append(f"{where} showed {terminal or 'nothing'} of {image.id}, which is {image.status}")
        elif "image.deleted" in shown:
            found.others.append(f"{where} showed that {image.id} was deleted, and it is there")


async def _terminal_events(settings: Settings) -> Counter[tuple[str, str]]:
    """Every terminal event and delete in the log up to now."""
    now = SystemClock().now()
    mark = ApiJoined(id=new_image_id(now), source="test", time=now)
    events: Counter[tuple[str, str]] = Counter()
    async with open_bus(settings, name="checker", clock=SystemClock()) as bus:
        await bus.publish(mark)
        async with aclosing(bus.read(Since(datetime(2020, 1, 1, tzinfo=UTC)))) as entries:
            async for entry in entries:
                if entry.event.id == mark.id:
                    return events
                if entry.event.type in TERMINAL or entry.event.type == "image.deleted":
                    events[entry.event.subject, entry.event.type] += 1
    return events


async def _check_queues(found: Findings, settings: Settings, dead_letters: int) -> None:
    lengths = await queue_lengths(settings)
    async with open_bus(settings, name="checker", clock=SystemClock()) as bus:
        found.letters = await bus.dead_letters(MAX_LETTERS)
    dead_letters += sum(FOREIGN_MARK.encode() in letter.body for letter in found.letters)
    dead_letters += sum(image.error is not None and image.error.code == WORKER_LOST for image in found.records.values())
    for name, count in lengths.items():
        expected = dead_letters if name == DEAD_QUEUE else 0
        if count != expected:
            found.others.append(f"the queue {name} holds {count} messages, not {expected}")


async def queue_lengths(settings: Settings) -> dict[str, int]:
    """Message counts of the work, retry and dead-letter queues, from the broker; those of timers vary."""
    topology = Topology(
        settings.retry_delays, settings.event_log_age, settings.event_log_bytes, settings.event_log_segment
    )
    names = [queue.name for queue in topology.queues if not queue.name.startswith(("image.events", "image.timer"))]
    lengths = {}
    async with await aio_pika.connect(settings.bus_url) as connection:
        async with connection.channel() as channel:
            for name in names:
                queue = await channel.declare_queue(name, passive=True)
                lengths[name] = queue.declaration_result.message_count or 0
        for pool in POOLS:
            # a channel of its own: the broker closes it if no generator of this pool has run
            with suppress(ChannelNotFoundEntity):
                async with connection.channel() as channel:
                    queue = await channel.declare_queue(pool_queue(pool).name, passive=True)
                    lengths[queue.name] = queue.declaration_result.message_count or 0
    return lengths
