"""Strict JSON from an untrusted source (RFC 8259)."""

from __future__ import annotations

import json
from typing import Any, NoReturn


class InvalidJson(ValueError):
    """The bytes are not strict JSON; the text says why, in at most 200 characters."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason[:200])


def parse_json(body: bytes) -> Any:
    """The value of a JSON text in UTF-8, as `json.loads` returns it.

    Stricter than `json.loads`: NaN and Infinity, a repeated key, a byte order mark, other encodings than UTF-8, and
    nesting that exhausts the stack are errors. A number beyond the range of a float becomes infinity, and a string may
    hold a lone surrogate (both are valid JSON): the model that takes the value has to refuse them.

    Raises:
        InvalidJson: the body is not strict JSON.
    """
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidJson(f"not UTF-8: byte {error.start}") from error
    except RecursionError as error:
        raise InvalidJson("nested too deeply") from error
    except json.JSONDecodeError as error:
        raise InvalidJson(f"{error.msg} at character {error.pos}") from error
    except InvalidJson:
        raise
    except ValueError as error:  # an integer of more digits than Python converts (4,300)
        raise InvalidJson("a number is too long") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in found if keys.count(key) > 1)
        raise InvalidJson(f"the key {repeated[:50]!r} is repeated in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidJson(f"{name} is not a JSON number")
