"""Problems: every refusal as JSON {code, detail}, and what was wrong with a request, field by field."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from services.inference.engine import EngineCapabilities, InferenceRequest

log = logging.getLogger(__name__)

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class HttpProblem(Exception):
    """An answer that is not the one hoped for."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        fields: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.fields, self.headers = fields, headers

    def response(self) -> web.Response:
        body: dict[str, object] = {"code": self.code, "detail": self.detail}
        if self.fields:
            body["fields"] = self.fields
        return web.json_response(body, status=self.status, headers=self.headers)


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The one place where an error becomes an answer."""
    try:
        return await handler(request)
    except HttpProblem as problem:
        return problem.response()
    except web.HTTPException as error:
        code = _CODES.get(error.status, HTTPStatus(error.status).name.lower())
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return HttpProblem(HTTPStatus(error.status), code, _detail(request, error), headers=headers).response()
    except Exception:
        log.exception("%s %s broke", request.method, request.path)
        return HttpProblem(
            HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "an error of the server, see its log"
        ).response()


def _detail(request: web.Request, error: web.HTTPException) -> str:
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return f"the body is larger than {request.client_max_size} bytes"
    if isinstance(error, web.HTTPNotFound):
        return f"nothing at {request.path[:200]}"
    if isinstance(error, web.HTTPMethodNotAllowed):
        return f"{request.method} is not offered here, but {', '.join(sorted(error.allowed_methods))}"
    return error.text or error.reason


def bad_json(detail: str) -> HttpProblem:
    return HttpProblem(HTTPStatus.BAD_REQUEST, "bad_json", detail)


def parsed_json(body: bytes) -> dict[str, Any]:
    """A JSON object (RFC 8259, so without NaN and Infinity).

    Raises:
        HttpProblem: 400, it is none.
    """
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise bad_json(f"the body is not UTF-8: byte {error.start}") from error
    except RecursionError as error:
        raise bad_json("the body is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise bad_json(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    except ValueError as error:  # a number of more digits than Python converts, or one that is none
        raise bad_json(f"the body has a number that cannot be taken: {error}") from error
    if not isinstance(value, dict):
        raise bad_json(f"expected a JSON object, got {_kind(value)}")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _kind(value: object) -> str:
    return {list: "an array", str: "a string", type(None): "null", bool: "a boolean"}.get(type(value), "a number")


def parse_order(body: dict[str, Any], can: EngineCapabilities) -> InferenceRequest:
    """The order in a body, checked against what the engine can do.

    Raises:
        HttpProblem: 422, with what was expected and what came, for each field.
    """
    try:
        order = InferenceRequest.model_validate(body)
    except ValidationError as error:
        raise _invalid([_field(dict(one)) for one in error.errors(include_url=False, include_context=False)]) from error
    models = {card.id: card for card in can.models}
    card = models.get(order.model)
    if card is None:
        raise _invalid([_wrong("model", f"one of {', '.join(models)}", order.model)])
    wrong = []
    if order.sampler not in card.samplers:
        wrong.append(_wrong("sampler", f"one of {', '.join(card.samplers)}", order.sampler))
    for name, value, most in (("width", order.width, card.max_width), ("height", order.height, card.max_height)):
        if value > most:
            wrong.append(_wrong(name, f"at most {most} for {card.id}", value))
    if order.format not in can.formats:
        wrong.append(_wrong("format", f"one of {', '.join(can.formats)}", order.format))
    if wrong:
        raise _invalid(wrong)
    return order


def _invalid(fields: list[dict[str, str]]) -> HttpProblem:
    detail = "; ".join(f"{one['field']}: expected {one['expected']}, got {one['got']}" for one in fields[:5])
    return HttpProblem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, fields=fields[:20])


def _field(error: dict[str, Any]) -> dict[str, str]:
    name = ".".join(map(str, error["loc"]))[:100] or "body"
    if error["type"] == "missing":
        return {"field": name, "expected": "a value", "got": "nothing"}
    if error["type"] == "extra_forbidden":
        return _wrong(name, f"no such field, only {', '.join(InferenceRequest.model_fields)}", error["input"])
    expected = str(error["msg"]).removeprefix("Input should be ").removeprefix("a valid ")
    return _wrong(name, expected[:1].lower() + expected[1:], error["input"])


def _wrong(field: str, expected: str, value: object) -> dict[str, str]:
    """What came is quoted where it is short: a whole prompt belongs in no message."""
    if isinstance(value, str) and len(value) > 40:
        got = f"a string of {len(value)} characters"
    elif isinstance(value, (list, dict)):
        got = f"{'an array' if isinstance(value, list) else 'an object'} of {len(value)}"
    else:
        got = json.dumps(value)[:60]
    return {"field": field, "expected": expected, "got": got}
