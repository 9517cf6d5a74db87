"""The port to traces: the spans of this process.

    with span("store record"): ...                      a child of the current span
    with span_of_message("process …", traceparent=…)    continues the trace of whoever sent the message
    with span_about(image_id, traceparent, "send …")    in the trace of the image, whatever the current span is about

Only `otel.py` knows OpenTelemetry. Without a tracer nothing is recorded, and each call costs less than a microsecond.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from common.domain.errors import ServiceError
from common.domain.texts import clean_traceparent

Attribute = str | int | float | bool
Attributes = Mapping[str, Attribute]
IMAGE: Final = "darkroom.image.id"


class SpanKind(StrEnum):
    """The kinds of OpenTelemetry."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span(Protocol):
    """A span that has begun. `traceparent` continues it in another process; None if it has no id."""

    @property
    def traceparent(self) -> str | None: ...

    def set(self, name: str, value: Attribute) -> None: ...

    def fail(self, error_type: str) -> None:
        """Mark it as failed. The text of an error is not recorded: it may quote a prompt."""

    def end(self) -> None: ...


class Tracer(Protocol):
    def start(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        *,
        parent: Span | str | None,
        link: Span | None = None,
    ) -> Span:
        """Begin a span; a parent may be the `traceparent` of another process. Without one it begins a trace."""


@dataclass(frozen=True, slots=True)
class _Current:
    span: Span
    image_id: str


class _Unrecorded:
    traceparent = None

    def set(self, name: str, value: Attribute) -> None: ...

    def fail(self, error_type: str) -> None: ...

    def end(self) -> None: ...


_NOTHING: Final[AbstractContextManager[Span]] = nullcontext(_Unrecorded())
_current: ContextVar[_Current | None] = ContextVar("current_span", default=None)
_tracers: list[Tracer] = []  # the last one records


@contextmanager
def recording(tracer: Tracer) -> Iterator[None]:
    """Record the spans of this process with the tracer."""
    _tracers.append(tracer)
    try:
        yield
    finally:
        _tracers.remove(tracer)


def is_on() -> bool:
    return bool(_tracers)


def current_traceparent() -> str | None:
    """What continues the current span in another process."""
    current = _current.get()
    return None if current is None else current.span.traceparent


def trace_id_of(traceparent: str | None) -> str:
    return traceparent[3:35] if traceparent else ""


def span(
    name: str, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes | None = None
) -> AbstractContextManager[Span]:
    """A child of the current span, or else the first of a trace."""
    if not _tracers:
        return _NOTHING
    current = _current.get()
    parent, image_id = (current.span, current.image_id) if current is not None else (None, "")
    return _entered(_tracers[-1].start(name, kind, attributes or {}, parent=parent), image_id)


def span_of_message(
    name: str, kind: SpanKind, attributes: Attributes, *, traceparent: str | None, image_id: str = ""
) -> AbstractContextManager[Span]:
    """A child of the span whose process has sent this; one that is missing or malformed begins a trace."""
    if not _tracers:
        return _NOTHING
    parent = clean_traceparent(traceparent)
    return _entered(_tracers[-1].start(name, kind, _about(attributes, image_id), parent=parent), image_id)


def span_about(
    image_id: str, traceparent: str | None, name: str, kind: SpanKind, attributes: Attributes
) -> AbstractContextManager[Span]:
    """A span in the trace of an image, which `traceparent` names.

    If the current span is in another trace, such as that of a cancel or of the image before it in the line, the new one
    is linked to it, and no child of it.
    """
    if not _tracers:
        return _NOTHING
    current = _current.get()
    parent, link = clean_traceparent(traceparent), None
    if current is None or _is_same_work(current, image_id, parent):
        start = _tracers[-1].start(
            name, kind, _about(attributes, image_id), parent=current.span if current is not None else parent
        )
    else:
        link = current.span
        start = _tracers[-1].start(name, kind, _about(attributes, image_id), parent=parent, link=link)
    return _entered(start, image_id)


def traceparent_about(image_id: str, traceparent: str | None) -> str | None:
    """What continues the work on an image later: the current span if it is in its trace, else `traceparent`."""
    current = _current.get()
    if current is not None and _is_same_work(current, image_id, clean_traceparent(traceparent)):
        return current.span.traceparent or traceparent
    return traceparent


def _is_same_work(current: _Current, image_id: str, traceparent: str | None) -> bool:
    if traceparent is None:
        return bool(image_id) and current.image_id == image_id
    return trace_id_of(traceparent) == trace_id_of(current.span.traceparent)


def _about(attributes: Attributes, image_id: str) -> Attributes:
    return {**attributes, IMAGE: image_id} if image_id else attributes


@contextmanager
def _entered(started: Span, image_id: str) -> Iterator[Span]:
    token = _current.set(_Current(started, image_id))
    try:
        yield started
    except asyncio.CancelledError:
        started.set("darkroom.cancelled", True)
        raise
    except BaseException as error:
        started.fail(error.code if isinstance(error, ServiceError) else type(error).__name__)
        raise
    finally:
        _current.reset(token)
        started.end()
