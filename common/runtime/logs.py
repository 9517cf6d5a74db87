"""The log of a service: one line for each record, in text or JSON."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import structlog
from structlog.contextvars import bind_contextvars, reset_contextvars

# control characters, line separators of Unicode, characters that change the direction of text, lone surrogates
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def set_up_logs(*, service: str, level: str, as_json: bool) -> None:
    """Write the log of Darkroom and all libraries to stderr in one form."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.format_exc_info,
        _one_line,
        structlog.processors.CallsiteParameterAdder([structlog.processors.CallsiteParameter.PROCESS]),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(sort_keys=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0, pad_level=False)
    )
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
    for chatty in ("aiohttp.access", "aiormq", "aio_pika", "pymongo"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    structlog.contextvars.bind_contextvars(service=service)


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


def log_context(image_id: str) -> AbstractContextManager[None]:
    """Every line logged inside carries this image id."""
    return log_fields(image=image_id)


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Every line logged inside carries these fields."""
    tokens = bind_contextvars(**fields)
    try:
        yield
    finally:
        reset_contextvars(**tokens)
