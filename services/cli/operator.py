"""What an operator does by hand: fire a purge or a sweep, and look after dead letters."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from common.bus.connect import open_bus
from common.bus.port import Bus, DeadLetter, Since
from common.domain.errors import Invalid, Misconfigured, ServiceError, Unavailable
from common.domain.images import new_image_id, parse_image_id
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage, JanitorPurged, JanitorSwept, Tick, TickData, decode
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings
from common.store.connect import open_store

SOURCE: Final = "operator"
REPORT_S: Final = 60.0  # a slice of a purge takes seconds; what takes longer goes on without the operator
LISTED: Final = 100


def run(settings: Settings, act: Callable[[Bus], Coroutine[Any, Any, int]]) -> int:
    """Act on the bus of the settings; the exit status, 1 with the reason on stderr."""
    if settings.bus_url.startswith("memory:"):
        _say("BUS_URL: memory:// is out of reach from another process; set the amqp://… that the services use")
        return 2

    async def on_bus() -> int:
        async with open_bus(settings, name=SOURCE, clock=SystemClock()) as bus:
            return await act(bus)

    try:
        return asyncio.run(on_bus())
    except ServiceError as error:
        _say(f"{error.code}: {error.detail}")
        return 1


async def fire(bus: Bus, timer: str, data: TickData, *, wait: bool = True) -> int:
    """Publish a tick, and wait for the janitor's report of it."""
    clock = SystemClock()
    began = clock.now()
    tick = Tick.model_validate(
        {"id": new_image_id(began), "source": SOURCE, "type": timer, "time": began, "data": data.model_dump()}
    )
    await bus.tick(tick)
    if not wait:
        return 0
    wanted = JanitorPurged if timer == "timer.purge" else JanitorSwept
    try:
        async with asyncio.timeout(REPORT_S), aclosing(bus.read(Since(began))) as entries:
            async for entry in entries:
                if isinstance(entry.event, wanted) and entry.event.time >= began:
                    _print(json.loads(entry.event.data.model_dump_json(by_alias=True)))
                    return 0
    except TimeoutError:
        pass
    _say("the tick is published, but no janitor has reported yet")
    return 1


async def list_letters(bus: Bus) -> int:
    """One line for each dead letter, oldest first."""
    letters = await bus.dead_letters(LISTED)
    for letter in letters:
        died = letter.died_at.isoformat(timespec="seconds") if letter.died_at else "?"
        sys.stdout.write(f"{letter.id}  {died}  {letter.queue}  {letter.reason}\n")
    _say(f"{len(letters)} dead letters" + (", and perhaps more" if len(letters) == LISTED else ""))
    return 0


async def show_letter(bus: Bus, letter_id: str) -> int:
    """Everything that is known of one."""
    letter = await _letter(bus, letter_id)
    if letter is None:
        return _none(letter_id)
    _print(
        {
            "id": letter.id,
            "reason": letter.reason,
            "queue": letter.queue,
            "diedAt": letter.died_at.isoformat() if letter.died_at else None,
            "body": letter.body.decode(errors="replace"),
        }
    )
    return 0


async def drop_letter(bus: Bus, letter_id: str) -> int:
    return 0 if await bus.drop(letter_id) else _none(letter_id)


async def redrive_letter(bus: Bus, letter_id: str, settings: Settings) -> int:
    """Give it another try: an image that has failed is ordered anew, with the old one's id as its source."""
    letter = await _letter(bus, letter_id)
    if letter is None:
        return _none(letter_id)
    order = await _order_again(letter, settings)
    if order is None:
        return 0 if await bus.redrive(letter_id) else _none(letter_id)
    await bus.send(order)
    await bus.drop(letter_id)
    _say(f"ordered anew as {order.id}")
    return 0


async def _order_again(letter: DeadLetter, settings: Settings) -> GenerateImage | None:
    """A new order for the image of the letter, where its record is final: a final record never changes."""
    try:
        command = decode(letter.body)
    except Invalid:
        return None
    if not isinstance(command, GenerateImage):
        return None
    async with _store(settings) as store:
        try:
            image = await store.get(parse_image_id(command.id))
        except Invalid:
            return None
    if image is None or not image.status.is_final or image.deleted_at is not None:
        return None
    now = SystemClock().now()
    parameters = image.parameters.model_dump()
    request = GenerationRequest(
        prompt=image.prompt,
        negative_prompt=image.negative_prompt,
        model=image.model,
        width=image.width,
        height=image.height,
        **parameters,
    )
    source = f"redrive:{image.id}"
    return GenerateImage(id=new_image_id(now), source=source, time=now, owner=image.owner, data=request)


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Any]:
    try:
        async with open_store(settings.store_url, timeout_s=settings.store_timeout) as store:
            yield store
    except Misconfigured as error:
        raise Unavailable("store", error.detail) from error


async def _letter(bus: Bus, letter_id: str) -> DeadLetter | None:
    return next((letter for letter in await bus.dead_letters(10_000) if letter.id == letter_id), None)


def _none(letter_id: str) -> int:
    _say(f"there is no dead letter {letter_id}")
    return 1


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _say(text: str) -> None:
    sys.stderr.write(f"darkroom: {text}\n")
