"""Reading a request into models, within limits of size and time."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from common.domain.errors import Invalid
from common.domain.requests import validation_failed
from common.runtime.accept import Accept
from common.runtime.strict_json import InvalidJson, parse_json
from services.api.events.waits import Disconnected

M = TypeVar("M", bound=BaseModel)

JSON: Final = "application/json"


def require_json_accepted(request: web.Request) -> None:
    """
    Raises:
        Invalid: `Accept` excludes JSON (`not_acceptable`). An unreadable `Accept` excludes nothing.
    """
    if Accept.parse(request.headers.getall("Accept", [])).quality(JSON) == 0:
        raise Invalid(f"only {JSON} is available here", code="not_acceptable")


async def drain(request: web.Request, *, timeout_s: float) -> None:
    """Read and ignore the body of a request that needs none.

    Raises:
        Invalid: the body is too large or too slow.
    """
    if request.can_read_body:
        await _read(request, timeout_s)


async def read_body(request: web.Request, model: type[M], *, timeout_s: float) -> M:
    """The JSON body as a model.

    Raises:
        Invalid: the body is not JSON (`not_json`, `invalid_json`), too large, too slow, or does not fit the model.
    """
    if request.content_type != JSON:
        raise Invalid(f"the body must be {JSON}, not {request.content_type[:100]!r}", code="not_json")
    codings = ",".join(request.headers.getall("Content-Encoding", [])).lower().split(",")
    if {coding.strip() for coding in codings} - {"", "identity"}:
        raise Invalid("the body must not have a Content-Encoding", code="not_json")
    return parse(await _read(request, timeout_s), model)


def has_disconnected(request: web.Request) -> bool:
    """Whether the client has closed the connection."""
    return request.transport is None or request.transport.is_closing()


async def _read(request: web.Request, timeout_s: float) -> bytes:
    if (request.content_length or 0) > request.client_max_size:
        raise Invalid("the body is too large", code="body_too_large")
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except (ConnectionError, web.RequestPayloadError) as error:
        if has_disconnected(request):
            raise Disconnected from error
        raise Invalid("the body does not keep to HTTP", code="broken_body") from error
    except TimeoutError as error:
        raise Invalid(f"the body did not arrive within {timeout_s:g} s", code="body_too_slow") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise Invalid("the body is too large", code="body_too_large") from error


def parse(body: bytes, model: type[M]) -> M:
    """Strict JSON as a model.

    Raises:
        Invalid: the bytes are not strict JSON (`invalid_json`), or a field does not fit the model.
    """
    try:
        value = parse_json(body)
    except InvalidJson as error:
        raise Invalid(f"the body is not valid JSON: {error}", code="invalid_json") from error
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise validation_failed(error, "the request") from error


def read_query(request: web.Request, model: type[M]) -> M:
    """The query parameters as a model.

    Raises:
        Invalid: a parameter is repeated, unknown, or does not fit the model.
    """
    repeated = {name for name in request.query if len(request.query.getall(name)) > 1}
    if repeated:
        raise Invalid(f"repeated query parameters: {', '.join(sorted(repeated))}", code="invalid_request")
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise validation_failed(error, "the query") from error
