"""What both adapters make of a message and of its handler, so that the rules of the port stand once.

Knows no broker and no queue: bytes in, an outcome out.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final, get_args

from common.bus.port import DeadLetter, Handler, Outcome, Reject, Retry, WorkQueue
from common.domain.errors import Invalid
from common.messages import CancelImage, Command, Event, GenerateImage, Message, Tick, decode, encode

log = logging.getLogger(__name__)

EVENT_TYPES: Final = frozenset(
    name for model in get_args(Event) for name in get_args(model.model_fields["type"].annotation)
)
MAX_BODY: Final = 65_536  # bytes; an order is under 20 kB, and a broker carries small messages best
MAX_FAILURES: Final = 20  # handlers raised in a row until the message is dead; RabbitMQ's own default delivery limit


def encode_body(message: Message) -> bytes:
    """The bytes of a message.

    Raises:
        Invalid: they are more than a bus should carry.
    """
    body = encode(message)
    if len(body) > MAX_BODY:
        detail = f"the message {message.type} {message.id} has {len(body)} bytes, at most {MAX_BODY} are sent"
        raise Invalid(detail, code="message_too_large")
    return body


def parse_work_message(queue: WorkQueue, body: bytes) -> Command | Tick:
    """The message of a work queue.

    Raises:
        Invalid: it does not parse, or is nothing for this queue.
    """
    message = decode(body)
    if not isinstance(message, GenerateImage | CancelImage | Tick) or message.type != queue.value:
        raise Invalid(f"a message of type {message.type} is nothing for {queue.value}", code="wrong_queue")
    return message


def parse_event(body: bytes) -> Event | None:
    """The event of a log's entry; None for one that this version cannot read."""
    try:
        message = decode(body)
    except Invalid as error:
        if _message_type(body) in EVENT_TYPES:
            log.warning("an event is passed over, it cannot be read: %s", error.detail)
        else:
            log.debug("an event is passed over, of a newer version or none of ours: %s", error.detail)
        return None
    if isinstance(message, GenerateImage | CancelImage | Tick):
        log.warning("a message of type %s is no event, and is passed over", message.type)
        return None
    return message


def _message_type(body: bytes) -> str:
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(envelope.get("type")) if isinstance(envelope, dict) else ""


def timer_tick(timer: WorkQueue, *, source: str, now: datetime) -> Tick:
    """The tick of a timer's own token."""
    # the enumeration is wider than the ticks: what is no timer fails here
    return Tick.model_validate(
        {"id": str(uuid.uuid4()), "source": source, "type": timer.value, "time": now, "token": True}
    )


def deduplication_key(message: Command | Tick | DeadLetter) -> str:
    """What is never handled twice at once in a process: an image, or one tick or dead letter."""
    return message.id if isinstance(message, Tick | DeadLetter) else message.subject or message.id


async def run_handler(
    handler: Handler, message: Command | Tick | DeadLetter, *, failures: int, retry_delays: Sequence[float]
) -> tuple[Outcome, int]:
    """Run the handler; its outcome, and how often in a row handlers of this message have raised.

    Raises:
        CancelledError: only when the task itself is cancelled; one that leaks out of a library is a failure.
    """
    before = cancel_requests()
    try:
        return await handler(message), 0
    except asyncio.CancelledError as error:
        if cancel_requests() > before:
            raise
        failed: BaseException = error
    except Exception as error:  # noqa: BLE001 - the top of a unit of work
        failed = error
    failures += 1
    log.error("the handler of %s failed (%s in a row)", deduplication_key(message), failures, exc_info=failed)
    if failures >= MAX_FAILURES:
        return Reject(f"the handler failed {failures} times in a row, last with {type(failed).__name__}"), failures
    return Retry(retry_delays[min(failures, len(retry_delays)) - 1]), failures


def cancel_requests() -> int:
    """How often this task has been told to stop. Where a CancelledError comes without one more, it is a library's."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
