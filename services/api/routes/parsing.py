"""Reading what a client sends, within limits of size and time, into models: whatever it is, never a trace."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Final, NoReturn, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from common.domain.errors import Invalid
from common.domain.requests import validation_failed

M = TypeVar("M", bound=BaseModel)


_JSON: Final = frozenset({"application/json", "application/*", "*/*"})


def require_json_wanted(request: web.Request) -> None:
    """
    Raises:
        Invalid: `Accept` leaves JSON out (`not_acceptable`). One that cannot be read asks for nothing.
    """
    accept = ",".join(request.headers.getall("Accept", []))
    ranges = [part.lower().split(";") for part in accept.split(",") if "/" in part]
    refused = [name for name, *parameters in ranges if any(_is_zero(parameter) for parameter in parameters)]
    wanted = {name.strip() for name, *_ in ranges} - {name.strip() for name in refused}
    if ranges and not wanted & _JSON:
        raise Invalid("this answers with application/json only", code="not_acceptable")


async def drain(request: web.Request, *, timeout_s: float) -> None:
    """A body where none is taken is passed over, unless it is large or slow."""
    if request.can_read_body:
        await _read(request, timeout_s)


async def read_body(request: web.Request, model: type[M], *, timeout_s: float) -> M:
    """The JSON body as a model.

    Raises:
        Invalid: it is not JSON (`not_json`), too large, too slow, ambiguous, or a field cannot be taken.
    """
    if request.content_type != "application/json":
        raise Invalid(f"the body must be application/json, not {request.content_type[:100]!r}", code="not_json")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Invalid("the body must come as it is, without a Content-Encoding", code="not_json")
    return parse(await _read(request, timeout_s), model)


async def _read(request: web.Request, timeout_s: float) -> bytes:
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError as error:
        raise Invalid(f"the body did not arrive within {timeout_s:g} s", code="body_too_slow") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise Invalid("the body is larger than is taken here", code="body_too_large") from error


def _is_zero(parameter: str) -> bool:
    """A weight of nothing (RFC 9110, section 12.4.2)."""
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and re.fullmatch(r"0(\.0{0,3})?", value.strip()) is not None


def parse(body: bytes, model: type[M]) -> M:
    """Bytes as a model, by the strict reading of JSON (RFC 8259): no NaN, no key twice, no depth without end."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_each_once, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        detail = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise Invalid(f"the body is not JSON that can be taken: {detail}", code="invalid_json") from error
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise validation_failed(error, "the request") from error


def read_query(request: web.Request, model: type[M]) -> M:
    """The query parameters as a model; each may stand once."""
    twice = {name for name in request.query if len(request.query.getall(name)) > 1}
    if twice:
        raise Invalid(f"{', '.join(sorted(twice))}: stands more than once", code="invalid_request")
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise validation_failed(error, "the query") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
