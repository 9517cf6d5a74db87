"""The log of a service: one line for each record, in text or JSON.

docs/log-line.schema.json is the schema of a line in JSON, docs/telemetry.md describes it.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Final

import structlog
from structlog.contextvars import bind_contextvars, reset_contextvars

from common.domain.texts import clean_traceparent
from common.runtime.tracing.spans import current_traceparent, trace_id_of

# control characters, line separators of Unicode, characters that change the direction of text, lone surrogates
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_QUOTED: Final = re.compile(r"[ \t\n\r=\"']")  # a value with one of these is written as Python writes it


def set_up_logs(*, service: str, level: str, as_json: bool) -> None:
    """Write the log of Darkroom and all libraries to stderr in one form."""

    def add_service(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service  # not of the context, which the threads of libraries do not have
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time" if as_json else "timestamp"),
        structlog.stdlib.add_log_level,
        add_service,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.ExtraAdder(("image_id", "trace_id")),
        _add_span,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.format_exc_info,
        _one_line,
        structlog.processors.CallsiteParameterAdder([structlog.processors.CallsiteParameter.PROCESS]),
    ]
    renderer = _renderer(as_json=as_json)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # at INFO these log each request or frame, which repeats our own lines
    for chatty in ("aiohttp.access", "aiormq", "aio_pika", "pymongo", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    if as_json:
        sys.excepthook = _log_uncaught


def _renderer(*, as_json: bool) -> structlog.typing.Processor:
    if as_json:
        return structlog.processors.JSONRenderer(sort_keys=False)
    if sys.stderr.isatty():
        return structlog.dev.ConsoleRenderer(pad_event_to=0, pad_level=False)
    return _text_line


def _text_line(_logger: object, _name: str, event: structlog.typing.EventDict) -> str:
    """What structlog's ConsoleRenderer writes without colours, in a third of its time."""
    trace = event.pop("exception", None)
    line = f"{event.pop('timestamp')} [{event.pop('level')}] {event.pop('event')} [{event.pop('logger')}]"
    for name in sorted(event):
        value = event[name]
        is_plain = type(value) is int or (type(value) is str and not _QUOTED.search(value))
        line += f" {name}={value if is_plain else repr(value)}"
    return line if trace is None else f"{line}\n{trace}"


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The end of a process is a line of the same form, too."""
    logging.getLogger("darkroom").critical("the process ends", exc_info=(kind, error, trace))


def _add_span(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The current span, rather than the trace that the work is known to belong to without one."""
    if traceparent := current_traceparent():
        _, event["trace_id"], event["span_id"], _ = traceparent.split("-")
    return event


def _one_line(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape foreign text (a name, a server's reason), so that it cannot forge a line or control a terminal."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _trace(value) if name == "exception" else _escaped(value)
    return event


def _escaped(text: str) -> str:
    return _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _trace(text: str) -> str:
    """A traceback with a prefix on each line, so that no line looks like another record."""
    return "\n".join(f"  | {_escaped(line)}" for line in text.split("\n"))


class OncePerKey:
    """Remembers the keys that it has seen, so that a fault that lasts is logged once; the oldest are forgotten."""

    def __init__(self, *, max_keys: int = 10_000) -> None:
        self._max_keys = max_keys
        self._seen: dict[str, None] = {}

    def is_new(self, key: str) -> bool:
        """True for the first call with this key."""
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > self._max_keys:
            del self._seen[next(iter(self._seen))]
        return True


def log_context(image_id: str, traceparent: str | None = None) -> AbstractContextManager[None]:
    """Every line logged inside carries this image id, and the id of the trace if there is one."""
    return log_fields(**image_fields(image_id, traceparent))


def image_fields(image_id: str, traceparent: str | None = None) -> dict[str, str]:
    """The same fields for one line alone, as `extra`."""
    trace_id = trace_id_of(clean_traceparent(traceparent))
    return {"image_id": image_id, "trace_id": trace_id} if trace_id else {"image_id": image_id}


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Every line logged inside carries these fields."""
    tokens = bind_contextvars(**fields)
    try:
        yield
    finally:
        reset_contextvars(**tokens)
