"""Dead letters, handled by hand: listed, shown, redriven or dropped."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from common.bus.port import Bus, DeadLetter
from common.domain.errors import Invalid, Misconfigured, Unavailable
from common.domain.images import Image, new_image_id, parse_image_id
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage, decode
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings
from common.store.connect import open_store
from common.store.port import Store
from services.cli.console import CommandFailed, print_message

MAX_LISTED: Final = 100
MAX_SEARCHED: Final = 10_000


async def list_letters(bus: Bus) -> int:
    """Print one line for each dead letter, oldest first."""
    letters = await bus.dead_letters(MAX_LISTED)
    for letter in letters:
        died_at = letter.died_at.isoformat(timespec="seconds") if letter.died_at else "?"
        sys.stdout.write(f"{letter.id}  {died_at}  {letter.queue}  {letter.reason}\n")
    print_message(f"{len(letters)} dead letters" + (", perhaps more" if len(letters) == MAX_LISTED else ""))
    return 0


async def show_letter(bus: Bus, letter_id: str) -> int:
    """Print all fields of a dead letter as JSON."""
    letter = await _find(bus, letter_id)
    fields = {
        "id": letter.id,
        "reason": letter.reason,
        "queue": letter.queue,
        "diedAt": letter.died_at.isoformat() if letter.died_at else None,
        "body": letter.body.decode(errors="replace"),
    }
    sys.stdout.write(json.dumps(fields, indent=2, ensure_ascii=False) + "\n")
    return 0


async def drop_letter(bus: Bus, letter_id: str) -> int:
    if not await bus.drop(letter_id):
        raise _not_found(letter_id)
    return 0


async def redrive_letter(bus: Bus, letter_id: str, settings: Settings) -> int:
    """Deliver the message again. A failed image is final, so its request becomes a new image instead."""
    letter = await _find(bus, letter_id)
    command = await _new_command(letter, settings)
    if command is None:
        if not await bus.redrive(letter_id):
            raise _not_found(letter_id)
        return 0
    await bus.send(command)
    await bus.drop(letter_id)
    print_message(f"requested again as image {command.id}")
    return 0


async def _new_command(letter: DeadLetter, settings: Settings) -> GenerateImage | None:
    """A command for a new image like that of the letter; None if that image is not final, or was deleted."""
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
    return GenerateImage(
        id=new_image_id(now), source=f"redrive:{image.id}", time=now, owner=image.owner, data=_request_of(image)
    )


def _request_of(image: Image) -> GenerationRequest:
    return GenerationRequest(
        prompt=image.prompt,
        negative_prompt=image.negative_prompt,
        model=image.model,
        width=image.width,
        height=image.height,
        **image.parameters.model_dump(),
    )


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Store]:
    try:
        async with open_store(settings.store_url, timeout_s=settings.store_timeout) as store:
            yield store
    except Misconfigured as error:
        raise Unavailable("store", error.detail) from error


async def _find(bus: Bus, letter_id: str) -> DeadLetter:
    for letter in await bus.dead_letters(MAX_SEARCHED):
        if letter.id == letter_id:
            return letter
    raise _not_found(letter_id)


def _not_found(letter_id: str) -> CommandFailed:
    return CommandFailed(f"there is no dead letter {letter_id}; `darkroom dead-letters list` shows the ids")
