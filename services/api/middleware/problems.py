"""Errors as RFC 9457 problem details, the only form in which errors leave the api."""

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
from services.api.events.waits import Disconnected
from services.api.limits import ratelimit
from services.api.middleware.client_address import client_of
from services.api.middleware.file_requests import RangeNotSatisfiable
from services.api.middleware.request_reading import has_disconnected

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
    "cursor_mismatch": 409,
    "body_too_large": 413,
    "body_too_slow": 408,
    "not_json": 415,
    "not_acceptable": 406,
    "precondition_failed": 412,
    "range_not_satisfiable": 416,
    "too_large": 413,
}
CLIENT_LEFT: Final = 499  # as nginx counts it; nobody reads this answer
_UNREAD: Final = frozenset({408, 413})  # the rest of the body is not read, so the connection cannot be reused
_CODE_OF_STATUS: Final = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def problem(status: int, code: str, detail: str, **more: Any) -> dict[str, Any]:
    """The members of a problem; `more` are those of its own, such as `fields` or `image`."""
    return {
        "type": f"urn:darkroom:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
        **more,
    }


def respond(members: dict[str, Any]) -> web.Response:
    """The response with the members of a problem."""
    return web.Response(status=members["status"], text=json.dumps(members), content_type=CONTENT_TYPE)


def problem_response(status: int, code: str, detail: str, **more: Any) -> web.Response:
    return respond(problem(status, code, detail, **more))


def error_response(error: ServiceError) -> web.Response:
    """The response to the caller for this error."""
    status = _STATUS_OF_CODE.get(error.code) or next(code for kind, code in _STATUS if isinstance(error, kind))
    more: dict[str, Any] = {}
    headers = {}
    match error:
        case Invalid(fields=fields) if fields:
            more["fields"] = fields
        case InvalidTransition(status=state):
            more["imageStatus"] = state
        case LimitReached():
            headers.update(ratelimit.refusal_headers(error))
        case RangeNotSatisfiable(size=size):
            headers["Content-Range"] = f"bytes */{size}"
        case Unavailable():
            headers["Retry-After"] = "2"
        case _:
            pass
    detail = error.detail if status != 500 else "an internal error occurred; it is logged"
    response = problem_response(status, error.code if status != 500 else "internal", detail, **more)
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
    """Turn every error into a problem with a stable code; the traceback goes to the log only."""
    try:
        return await handler(request)
    except ServiceError as error:
        if not isinstance(error, BadRequest | Unavailable):
            log.exception("%s %s", request.method, _logged_path(request))
        return error_response(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = _CODE_OF_STATUS.get(error.status, "bad_request")
        response = problem_response(error.status, code, _detail(error, request))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except Exception as error:  # the top of a unit of work
        if isinstance(error, Disconnected | ConnectionError) and has_disconnected(request):
            log.debug("%s %s: the client has disconnected", request.method, _logged_path(request))
            return problem_response(CLIENT_LEFT, "client_left", "the client has disconnected")
        log.exception("%s %s from %s", request.method, _logged_path(request), client_of(request).address)
        return problem_response(500, "internal", "an internal error occurred; it is logged")


def _logged_path(request: web.Request) -> str:
    """The path; of a share link the template, since everyone who knows the path can open it."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None and "token" in request.match_info else request.path


def _detail(error: web.HTTPException, request: web.Request) -> str:
    if error.status == 404:
        return f"there is no resource at {request.path[:200]!r}; /openapi.json lists the resources"
    if error.status == 405:
        return f"Method {request.method} is not allowed; use {error.headers.get('Allow', '')}"
    return error.reason
