"""Errors below `/openai` in OpenAI's envelope: `{"error": {"message", "type", "param", "code"}}`.

A handler raises the usual errors. The middleware `problems` makes problems of them, and `envelopes` envelopes of these.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from common.domain.errors import ServiceError, Unavailable
from services.api.context import CONTEXT
from services.api.middleware import problems

PREFIX: Final = "/openai"
SHOULD_RETRY: Final = "x-should-retry"
MAX_RETRY_AFTER_S: Final = 120  # the SDK waits no longer
_CODES: Final = {
    "unauthorized": "invalid_api_key",
    "not_found": "unknown_url",
    "hourly_limit": "rate_limit_exceeded",
    "concurrent_limit": "rate_limit_exceeded",
    "wait_limit": "rate_limit_exceeded",
    "waiting_limit": "rate_limit_exceeded",
}
_PARAMS: Final = {"model_not_found": "model", "too_many_images": "n"}


class Unfinished(Unavailable):
    """The wait is over before the images have ended; with identity a repeat joins them, else it would order others."""

    code = "unfinished"

    def __init__(self, *, can_join: bool) -> None:
        super().__init__("image")
        what_to_do = "Send the same request again to wait for them." if can_join else "They will be in the history."
        self.detail = f"The images are not finished yet. {what_to_do}"


def envelope(status: int, code: str, message: str, *, param: str | None = None) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "requests" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param or _PARAMS.get(code), "code": code}}


def envelope_of(members: dict[str, Any]) -> dict[str, Any]:
    """The envelope for the members of a problem."""
    code = _CODES.get(members["code"], members["code"])
    param = next(iter(members.get("fields", {})), None)
    return envelope(members["status"], code, members["detail"], param=param)


def envelope_for(error: ServiceError) -> dict[str, Any]:
    """The envelope for an error that can no longer be a status."""
    return envelope_of(json.loads(problems.error_response(error).text or "{}"))


@web.middleware
async def envelopes(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Below `/openai` every error is an envelope."""
    path = request.path.removeprefix(request.app[CONTEXT].settings.base_path)
    if path != PREFIX and not path.startswith(f"{PREFIX}/"):
        return await handler(request)
    response = await problems.problems(request, handler)
    if response.prepared:
        return response
    if isinstance(response, web.Response) and response.content_type == problems.CONTENT_TYPE:
        _convert(response, request)
    return response


def _convert(response: web.Response, request: web.Request) -> None:
    """Change a problem into an envelope; status and headers stay, and the SDK learns whether to retry."""
    members = json.loads(response.text or "{}")
    if members["code"] == "not_found":
        members["detail"] = f"Unknown request URL: {request.method} {request.path[:200]}. See docs/openai.md."
    response.content_type = "application/json"
    response.text = json.dumps(envelope_of(members))
    is_soon = int(response.headers.get("Retry-After", 0)) <= MAX_RETRY_AFTER_S
    is_passing = response.status in {408, 429} or response.status >= 500
    is_new_order = members["code"] == Unfinished.code and not request.app[CONTEXT].settings.has_identity
    can_help = is_passing and is_soon and not is_new_order
    response.headers.setdefault(SHOULD_RETRY, "true" if can_help else "false")
