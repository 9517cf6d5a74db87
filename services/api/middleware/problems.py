"""Errors as RFC 9457 problem details: every error of the tree has its status here, and nothing else leaves the api."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from common.domain.errors import (
    BadRequest,
    Duplicate,
    Forbidden,
    Gone,
    Invalid,
    InvalidTransition,
    LimitReached,
    NotFound,
    ServiceError,
    Unauthorized,
    Unavailable,
)
from services.api.limits import ratelimit

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/problem+json"
_STATUS: Final[list[tuple[type[ServiceError], int]]] = [
    (Invalid, 400),
    (Unauthorized, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Gone, 410),
    (InvalidTransition, 409),
    (Duplicate, 409),
    (LimitReached, 429),
    (BadRequest, 400),
    (Unavailable, 503),
    (ServiceError, 500),
]
_STATUS_OF_CODE: Final = {
    "idempotency_mismatch": 422,
    "body_too_large": 413,
    "body_too_slow": 408,
    "not_json": 415,
    "not_acceptable": 406,
}
_UNREAD: Final = frozenset({408, 413})  # the rest of such a body is not waited for
_CODE_OF_STATUS: Final = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def problem(status: int, code: str, detail: str, **more: Any) -> web.Response:
    """One problem; `more` are members of its own, as `fields` or `image`."""
    body = {
        "type": f"urn:darkroom:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
        **more,
    }
    return web.Response(status=status, text=json.dumps(body), content_type=CONTENT_TYPE)


def of(error: ServiceError) -> web.Response:
    """The problem that an error is to the caller."""
    status = _STATUS_OF_CODE.get(error.code) or next(code for kind, code in _STATUS if isinstance(error, kind))
    more: dict[str, Any] = {}
    headers = {}
    match error:
        case Invalid(fields=fields) if fields:
            more["fields"] = fields
        case InvalidTransition(status=state):
            more["imageStatus"] = state
        case LimitReached():
            headers.update(ratelimit.none_left(error))
        case Unavailable():
            headers["Retry-After"] = "2"
        case _:
            pass
    detail = error.detail if status != 500 else "something went wrong here; it is logged"
    response = problem(status, error.code if status != 500 else "internal", detail, **more)
    response.headers.update(headers)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status in _UNREAD:
        response.force_close()
    return response


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Whatever goes wrong below becomes a problem with a stable code; the trace stays in the log."""
    try:
        return await handler(request)
    except ServiceError as error:
        if not isinstance(error, BadRequest | Unavailable):
            log.exception("%s %s", request.method, request.path)
        return of(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = _CODE_OF_STATUS.get(error.status, "bad_request")
        response = problem(error.status, code, _detail(error, request))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except Exception:  # the top of a unit of work
        log.exception("%s %s", request.method, request.path)
        return problem(500, "internal", "something went wrong here; it is logged")


def _detail(error: web.HTTPException, request: web.Request) -> str:
    if error.status == 404:
        return f"there is nothing at {request.path[:200]!r}; /openapi.json lists what there is"
    if error.status == 405:
        return f"{request.method} is not done here; {error.headers.get('Allow', '')} is"
    return error.reason
