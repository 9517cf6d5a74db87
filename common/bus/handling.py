"""The rules for handling a message that both adapters share: bytes in, an outcome out.

This module knows no broker and no queue.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Final, get_args

from common.bus.port import DeadLetter, Handler, Outcome, Reject, Retry, WorkQueue
from common.domain.errors import Invalid
from common.domain.requests import GenerationRequest
from common.messages import CancelImage, Command, Event, GenerateImage, Message, Tick, decode, encode
from common.runtime.logs import image_fields

log = logging.getLogger(__name__)

Acknowledge = Callable[[], Awaitable[None]]
_acknowledge: ContextVar[Acknowledge] = ContextVar("acknowledge")  # of the message whose handler runs in this context

EVENT_TYPES: Final = frozenset(
    name for model in get_args(Event) for name in get_args(model.model_fields["type"].annotation)
)
MAX_BODY: Final = 65_536  # bytes; a command is under 20 kB, and brokers work best with small messages
MAX_DEAD_BODY: Final = 2 * MAX_BODY  # bytes that are kept of a dead letter; what is longer was never a command
MAX_REASON: Final = 1000  # characters
# Sums of a time in this range and any setting stay within what datetime and an AMQP timestamp can express.
MAX_FAILURES: Final = 20  # failures in a row until it becomes a dead letter; RabbitMQ's default delivery limit


def encode_body(message: Message) -> bytes:
    """Encode a message as the body that is published.

    Raises:
        Invalid: the body is larger than `MAX_BODY`.
    """
    body = encode(message)
    if len(body) > MAX_BODY:
        detail = f"the message {message.type} {message.id} has {len(body)} bytes, but at most {MAX_BODY} are allowed"
        raise Invalid(detail, code="message_too_large")
    return body


def parse_work_message(queue: WorkQueue, body: bytes) -> Command | Tick:
    """Parse a message of a work queue.

    Raises:
        Invalid: the body is too large or does not parse, or its type does not belong to this queue.
    """
    message = _parse(body)
    if not isinstance(message, GenerateImage | CancelImage | Tick) or message.type != queue.message_type:
        raise Invalid(f"a message of type {message.type} does not belong to {queue.value}", code="wrong_queue")
    return message


def queue_of(command: Command) -> WorkQueue:
    """The queue that a command is sent to."""
    if isinstance(command, CancelImage):
        return WorkQueue.CANCEL
    return WorkQueue.INTAKE if isinstance(command.data, GenerationRequest) else WorkQueue.GENERATE


def parse_event(body: bytes) -> Event | None:
    """Parse an event of the log; None if this version cannot read it."""
    try:
        message = _parse(body)
    except Invalid as error:
        if len(body) <= MAX_BODY and _message_type(body) in EVENT_TYPES:
            log.warning("ignored an event that cannot be read: %s", error.detail)
        else:
            log.debug("ignored an event of a newer version or of another system: %s", error.detail)
        return None
    if isinstance(message, GenerateImage | CancelImage | Tick):
        log.warning("ignored a message of type %s: it is not an event", message.type)
        return None
    return message


def _parse(body: bytes) -> Command | Event | Tick:
    """Decode a body.

    Raises:
        Invalid: nothing else, whatever the body is.
    """
    if len(body) > MAX_BODY:  # before parsing: JSON takes many times the memory of its text
        detail = f"the body has {len(body)} bytes, but at most {MAX_BODY} are allowed"
        raise Invalid(detail, code="message_too_large")
    try:
        return decode(body)
    except Invalid:
        raise
    except Exception as error:  # a value that a library cannot compute with costs only its own message
        raise Invalid(f"the message cannot be read: {type(error).__name__}", code="invalid_request") from error


def one_line(text: str) -> str:
    """At most `MAX_REASON` characters that a terminal or a log line shows as they are."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[:MAX_REASON])


def _message_type(body: bytes) -> str:
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(envelope.get("type")) if isinstance(envelope, dict) else ""


def timer_tick(timer: WorkQueue, *, source: str, now: datetime) -> Tick:
    """The tick for the token of a timer."""
    # Not every work queue is a timer; for the others the validation fails.
    return Tick.model_validate(
        {"id": str(uuid.uuid4()), "source": source, "type": timer.value, "time": now, "token": True}
    )


def deduplication_key(message: Command | Tick | DeadLetter) -> str:
    """A process handles only one message at a time per key.

    The key is the image: the id of `image.generate`, the subject of `image.cancel`. For a tick or a dead letter it is
    the id of the message.
    """
    return message.subject or message.id if isinstance(message, CancelImage) else message.id


async def acknowledge_early() -> None:
    """Acknowledge the message whose handler calls this; the handler continues beside the next ones.

    From now on it does not count for the concurrency, and another message of its key may be handled. If this process
    dies, the message is not delivered again: what is left to do must be found elsewhere. A later `Retry` or `Reject`
    has its usual effect. Without a message in hand, nothing happens.
    """
    if (acknowledge := _acknowledge.get(None)) is not None:
        await acknowledge()


async def run_handler(
    handler: Handler,
    message: Command | Tick | DeadLetter,
    *,
    failures: int,
    retry_delays: Sequence[float],
    acknowledge: Acknowledge,
) -> tuple[Outcome, int]:
    """Run the handler; return its outcome, and how many times in a row the handling of this message has failed.

    Raises:
        CancelledError: the task itself was cancelled. A CancelledError that leaks out of a library is a failure.
    """
    before = cancel_requests()
    _acknowledge.set(acknowledge)
    try:
        return await handler(message), 0
    except asyncio.CancelledError as error:
        if cancel_requests() > before:
            raise
        failed: BaseException = error
    except Exception as error:  # noqa: BLE001 - the top of a unit of work
        failed = error
    failures += 1
    key = deduplication_key(message)
    fields = image_fields(key, message.traceparent) if isinstance(message, GenerateImage | CancelImage) else {}
    log.error("the handler of %s failed (%s in a row)", key, failures, exc_info=failed, extra=fields)
    if failures >= MAX_FAILURES:
        return Reject(f"the handler failed {failures} times in a row, last with {type(failed).__name__}"), failures
    return Retry(retry_delays[min(failures, len(retry_delays)) - 1]), failures


def cancel_requests() -> int:
    """How many times `cancel` was called on this task. A CancelledError without another call comes from a library."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
