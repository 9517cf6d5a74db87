"""Dead letters on the command line: listed, shown, redriven or dropped over the bus of the services."""

from __future__ import annotations

import sys
from datetime import datetime

from common.application.operation import dead_letters
from common.bus.port import Bus, DeadLetter
from common.domain.errors import Misconfigured, NotFound, Unavailable
from common.domain.images import Image
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings
from common.store.connect import open_store
from services.cli.console import CommandFailed, json_text, print_message, printable


async def list_letters(bus: Bus) -> int:
    """Print one line for each dead letter, oldest first."""
    letters = await bus.dead_letters(dead_letters.MAX_LISTED)
    for letter in letters:
        print_letter(letter.id, letter.died_at, letter.queue, letter.reason)
    print_count(len(letters))
    return 0


async def show_letter(bus: Bus, letter_id: str) -> int:
    """Print all fields of a dead letter as JSON."""
    letter = await _found(bus, letter_id)
    fields = {
        "id": letter.id,
        "reason": letter.reason,
        "queue": letter.queue,
        "diedAt": letter.died_at.isoformat() if letter.died_at else None,
        "body": letter.body.decode(errors="replace"),
    }
    sys.stdout.write(json_text(fields) + "\n")
    return 0


async def drop_letter(bus: Bus, letter_id: str) -> int:
    try:
        await dead_letters.drop_letter(bus, letter_id)
    except NotFound as error:
        raise not_found(letter_id) from error
    return 0


async def redrive_letter(bus: Bus, letter_id: str, settings: Settings) -> int:
    """Deliver the message again, or request its image again if that has failed."""

    async def find_image(image_id: str) -> Image | None:
        try:
            async with open_store(settings.store_url, timeout_s=settings.store_timeout) as store:
                return await store.get(image_id)
        except Misconfigured as error:
            raise Unavailable("store", error.detail) from error

    try:
        print_redriven(await dead_letters.redrive_letter(bus, SystemClock(), letter_id, find_image=find_image))
    except NotFound as error:
        raise not_found(letter_id) from error
    return 0


def print_letter(letter_id: str, died_at: datetime | None, queue: str, reason: str) -> None:
    """One line; the texts come from outside."""
    at = died_at.isoformat(timespec="seconds") if died_at else "?"
    sys.stdout.write(f"{printable(letter_id)}  {at}  {printable(queue)}  {printable(reason)}\n")


def print_count(count: int) -> None:
    print_message(f"{count} dead letters" + (", perhaps more" if count == dead_letters.MAX_LISTED else ""))


def print_redriven(image_id: str | None) -> None:
    if image_id is not None:
        print_message(f"requested again as image {image_id}")


def not_found(letter_id: str) -> CommandFailed:
    return CommandFailed(f"there is no dead letter {letter_id}; `darkroom dead-letters list` shows the ids")


async def _found(bus: Bus, letter_id: str) -> DeadLetter:
    try:
        return await dead_letters.find_letter(bus, letter_id)
    except NotFound as error:
        raise not_found(letter_id) from error
