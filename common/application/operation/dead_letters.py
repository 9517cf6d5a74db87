"""Dead letters, handled by an operator: found, redriven, dropped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from common.bus.port import Bus, DeadLetter
from common.domain.errors import Invalid, NotFound
from common.domain.images import Image, new_image_id, parse_image_id
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage, decode
from common.runtime.clock import Clock

MAX_LISTED: Final = 100
MAX_SEARCHED: Final = 10_000

FindImage = Callable[[str], Awaitable[Image | None]]


async def find_letter(bus: Bus, letter_id: str) -> DeadLetter:
    """Raises NotFound."""
    for letter in await bus.dead_letters(MAX_SEARCHED):
        if letter.id == letter_id:
            return letter
    raise _not_found(letter_id)


async def drop_letter(bus: Bus, letter_id: str) -> None:
    """Raises NotFound."""
    if not await bus.drop(letter_id):
        raise _not_found(letter_id)


async def redrive_letter(bus: Bus, clock: Clock, letter_id: str, *, find_image: FindImage) -> str | None:
    """Deliver the message again. A failed image is final, so its request becomes a new image, whose id is returned.

    Raises:
        NotFound: there is no such dead letter.
        Invalid: it came from no queue of Darkroom.
    """
    letter = await find_letter(bus, letter_id)
    command = await _new_command(letter, clock.now(), find_image)
    if command is None:
        if not await bus.redrive(letter_id):
            raise _not_found(letter_id)
        return None
    await bus.send(command)
    await bus.drop(letter_id)
    return command.id


async def _new_command(letter: DeadLetter, now: datetime, find_image: FindImage) -> GenerateImage | None:
    """A command for a new image like that of the letter; None if that image is not final, or was deleted."""
    try:
        command = decode(letter.body)
        if not isinstance(command, GenerateImage):
            return None
        image = await find_image(parse_image_id(command.id))
    except Invalid:
        return None
    if image is None or not image.status.is_final or image.deleted_at is not None:
        return None
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
        webhook=image.webhook,
        **image.parameters.model_dump(),
    )


def _not_found(letter_id: str) -> NotFound:
    return NotFound(f"there is no dead letter {letter_id[:80]}", code="dead_letter_not_found")
