"""Error responses as JSON: `{"code", "detail"}`, with `fields` for an invalid order."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from common.runtime.strict_json import InvalidJson, parse_json
from services.inference.engine import EngineCapabilities, InferenceRequest, ModelCard

log = logging.getLogger(__name__)

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


@dataclass(eq=False)
class HttpProblem(Exception):
    """An error that becomes a response."""

    status: HTTPStatus
    code: str
    detail: str
    fields: list[dict[str, str]] | None = None
    headers: Mapping[str, str] | None = None

    def response(self) -> web.Response:
        body: dict[str, object] = {"code": self.code, "detail": self.detail}
        if self.fields:
            body["fields"] = self.fields
        return web.json_response(body, status=self.status, headers=self.headers)


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error of a handler into a JSON response."""
    try:
        return await handler(request)
    except HttpProblem as problem:
        return problem.response()
    except web.HTTPException as error:
        code = _CODES.get(error.status, HTTPStatus(error.status).name.lower())
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return HttpProblem(HTTPStatus(error.status), code, _detail(request, error), headers=headers).response()
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return HttpProblem(
            HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "an internal error; the log of the server has the details"
        ).response()


def _detail(request: web.Request, error: web.HTTPException) -> str:
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return f"the body is larger than {request.client_max_size} bytes"
    if isinstance(error, web.HTTPNotFound):
        return f"no resource at {request.path[:200]}"
    if isinstance(error, web.HTTPMethodNotAllowed):
        return f"method {request.method} is not allowed; use {', '.join(sorted(error.allowed_methods))}"
    return error.text or error.reason


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        HttpProblem: 400, the body is not a JSON object.
    """
    try:
        value = parse_json(body)
    except InvalidJson as error:
        raise HttpProblem(HTTPStatus.BAD_REQUEST, "bad_json", f"the body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        kinds = {list: "an array", str: "a string", type(None): "null", bool: "a boolean"}
        detail = f"expected a JSON object, got {kinds.get(type(value), 'a number')}"
        raise HttpProblem(HTTPStatus.BAD_REQUEST, "bad_json", detail)
    return value


def parse_order(body: dict[str, Any], can: EngineCapabilities) -> InferenceRequest:
    """The order in a body, checked against the capabilities of the engine.

    Raises:
        HttpProblem: 422, with the expected and the actual value of each wrong field.
    """
    try:
        order = InferenceRequest.model_validate(body)
    except ValidationError as error:
        raise _invalid([_field(dict(one)) for one in error.errors(include_url=False, include_context=False)]) from error
    models = {card.id: card for card in can.models}
    card = models.get(order.model)
    if card is None:
        raise _invalid([_wrong("model", f"one of {', '.join(models)}", order.model)])
    if wrong := [_wrong(name, expected, getattr(order, name)) for name, expected in _unsupported(order, card, can)]:
        raise _invalid(wrong)
    return order


def _unsupported(order: InferenceRequest, card: ModelCard, can: EngineCapabilities) -> Iterator[tuple[str, str]]:
    """The fields that the model cannot honour, with what they may be."""
    if order.sampler not in card.samplers:
        yield "sampler", f"one of {', '.join(card.samplers)}"
    if order.steps > card.max_steps:
        yield "steps", f"at most {card.max_steps} for {card.id}"
    for name, side, most in (("width", order.width, card.max_width), ("height", order.height, card.max_height)):
        if side > most:
            yield name, f"at most {most} for {card.id}"
        if side % card.grid:
            yield name, f"a multiple of {card.grid} for {card.id}"
    if order.hires_fix and not card.hires_fix:
        yield "hires_fix", f"false for {card.id}"
    if order.negative_prompt and not card.negative_prompt:
        yield "negative_prompt", f"an empty text for {card.id}"
    if order.format not in can.formats:
        yield "format", f"one of {', '.join(can.formats)}"


def _invalid(fields: list[dict[str, str]]) -> HttpProblem:
    detail = "; ".join(f"{one['field']}: expected {one['expected']}, got {one['got']}" for one in fields[:5])
    return HttpProblem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, fields=fields[:20])


def _field(error: dict[str, Any]) -> dict[str, str]:
    name = ".".join(map(str, error["loc"]))[:100] or "body"
    if error["type"] == "missing":
        return {"field": name, "expected": "a value", "got": "nothing"}
    if error["type"] == "extra_forbidden":
        return _wrong(name, f"one of the fields {', '.join(InferenceRequest.model_fields)}", error["input"])
    expected = str(error["msg"]).removeprefix("Input should be ").removeprefix("a valid ")
    return _wrong(name, expected[:1].lower() + expected[1:], error["input"])


def _wrong(field: str, expected: str, value: object) -> dict[str, str]:
    """Quotes the value only if it is short: a message must not hold a whole prompt."""
    if isinstance(value, str) and len(value) > 40:
        got = f"a string of {len(value)} characters"
    elif isinstance(value, (list, dict)):
        got = f"{'an array' if isinstance(value, list) else 'an object'} of {len(value)}"
    else:
        got = json.dumps(value)[:60]
    return {"field": field, "expected": expected, "got": got}
