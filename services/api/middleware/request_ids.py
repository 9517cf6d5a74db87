"""The id of each request, in the header `X-Request-Id` of its answer and in its log lines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final
from uuid import uuid4

from aiohttp import web

from common.domain.errors import Invalid
from common.domain.images import parse_image_id
from common.runtime.logs import log_fields
from common.runtime.tracing.http import header_traceparent
from common.runtime.tracing.spans import trace_id_of

REQUEST_ID: Final = "X-Request-Id"
_request_id: ContextVar[str] = ContextVar("request_id", default="")


@web.middleware
async def identify(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """An id that the client sends does not count: two clients may send the same."""
    request_id = f"req_{uuid4().hex}"
    fields = {"request_id": request_id}
    if trace_id := trace_id_of(header_traceparent(request)):
        fields["trace_id"] = trace_id
    if image_id := _image_in_path(request):
        fields["image_id"] = image_id
    token = _request_id.set(request_id)
    try:
        with log_fields(**fields):
            response = await handler(request)
    finally:
        _request_id.reset(token)
    if not response.prepared:
        response.headers[REQUEST_ID] = request_id
    return response


async def show_request_id(_request: web.Request, response: web.StreamResponse) -> None:
    """Signal `on_response_prepare`, for an answer that a handler begins itself."""
    if found := _request_id.get():
        response.headers[REQUEST_ID] = found


def _image_in_path(request: web.Request) -> str:
    try:
        return parse_image_id(request.match_info.get("id", ""))
    except Invalid:
        return ""
