"""The contracts for machines, made from the models that validate: `/openapi.json` (3.1) and `/asyncapi.json` (3.0)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final, Literal

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from common.messages import (
    CONTENT_TYPE,
    ApiJoined,
    CancelImage,
    GenerateImage,
    ImageChanged,
    ImageDeleted,
    ImageProgressed,
    JanitorPurged,
    JanitorSwept,
    Message,
    Tick,
)
from services.api.context import Call, Operation
from services.api.middleware import problems
from services.api.routes.schema import Problem

_REF: Final = "#/components/schemas/{model}"
_ID: Final = {"type": "string", "format": "uuid"}
_KEY: Final = {"type": "string"}
_HEADERS_TAKEN: Final = {"Idempotency-Key": {"type": "string", "pattern": "^[!-~]{1,200}$"}}
_HEADERS_GIVEN: Final[dict[str, dict[str, Any]]] = {
    "Location": {"description": "Where the image is", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "What of `Prefer` was done (RFC 7240)", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "The limits of an owner", "schema": {"type": "string"}},
    "RateLimit": {"description": "What is left of them", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}},
}
_PROBLEM_HEADERS: Final = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}
Channel = tuple[str, Literal["send", "receive"], tuple[type[Message], ...], str]
# what another service may do on each exchange; the names are those of the broker
_CHANNELS: Final[list[Channel]] = [
    ("image.commands", "send", (GenerateImage, CancelImage), "orders, each handled once"),
    ("image.events", "receive", (ImageChanged, ImageProgressed, ImageDeleted), "facts about images"),
    ("janitor.events", "receive", (JanitorPurged, JanitorSwept, ApiJoined), "what the house itself did"),
    ("image.timers", "send", (Tick,), "do it now, beside the timers"),
]


def operations(routes: Sequence[Operation]) -> list[Operation]:
    """The routes that serve the contracts, of these routes and of themselves."""

    async def openapi(_call: Call) -> web.Response:
        """What this api takes and gives."""
        return web.json_response(rest)

    async def asyncapi(_call: Call) -> web.Response:
        """What travels on the bus."""
        return web.json_response(describe_bus())

    own = [
        Operation("GET", "/openapi.json", openapi, "This contract", answers={200: None}, is_public=True),
        Operation("GET", "/asyncapi.json", asyncapi, "The bus's contract", answers={200: None}, is_public=True),
    ]
    rest = describe_rest([*routes, *own])
    return own


def describe_rest(routes: Sequence[Operation]) -> dict[str, Any]:
    """OpenAPI 3.1, whose schemas are JSON Schema 2020-12."""
    taken = {route.body for route in routes if route.body}
    given = {model for route in routes for model in route.answers.values() if model} | {Problem}
    # requests in snake_case, as the playground sends them; camelCase is taken alike
    asked, requests = models_json_schema(_all(taken, "validation"), by_alias=False, ref_template=_REF)
    said, answers = models_json_schema(_all(given, "serialization"), ref_template=_REF)
    keys = {**asked, **said}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.path != "/ws":  # a websocket is not described by OpenAPI: docs/websocket.md does
            paths.setdefault(_template(route.path), {})[route.method.lower()] = _operation(route, keys)
    _link(paths, routes)
    return {
        "openapi": "3.1.1",
        "info": {"title": "Darkroom", "version": version("darkroom"), "license": {"name": "MIT", "identifier": "MIT"}},
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": paths,
        "components": {
            "schemas": {**requests.get("$defs", {}), **answers["$defs"]},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A JWT, or a key of `darkroom keys`"},
                "signature": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "signature",
                    "description": "With `expires`, as they stand in the `imageUrl` that the api hands out",
                },
            },
        },
    }


@cache
def describe_bus() -> dict[str, Any]:
    """AsyncAPI 3.0: channels are the broker's exchanges."""
    models = {model for _, _, messages, _ in _CHANNELS for model in messages}
    _, schemas = models_json_schema(_all(models, "serialization"), ref_template=_REF)
    channels, operations = {}, {}
    for address, action, messages, what in _CHANNELS:
        name = address.replace(".", "_")
        channels[name] = {
            "address": address.replace("janitor.events", "image.events"),
            "description": what,
            "messages": {model.__name__: {"$ref": f"#/components/messages/{model.__name__}"} for model in messages},
        }
        operations[f"{action}_{name}"] = {"action": action, "channel": {"$ref": f"#/channels/{name}"}}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Darkroom", "version": version("darkroom")},
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                model.__name__: {"contentType": CONTENT_TYPE, "payload": {"$ref": _REF.format(model=model.__name__)}}
                for model in sorted(models, key=_name)
            },
            "schemas": schemas["$defs"],
        },
    }


def _link(paths: dict[str, dict[str, Any]], routes: Sequence[Operation]) -> None:
    """What is ordered can be looked at, changed, cancelled and deleted by its id."""
    links = {
        _name_of(route): {"operationId": _name_of(route), "parameters": {"id": "$response.body#/id"}}
        for route in routes
        if "{id" in route.path
    }
    ordered = paths.get("/v1/images/generations", {}).get("post", {"responses": {}})
    for status in {"201", "202"} & set(ordered["responses"]):
        ordered["responses"][status]["links"] = links


def _name_of(route: Operation) -> str:
    return f"{route.handle.__module__.rpartition('.')[2]}_{route.handle.__name__}"


def _all(models: set[Any], mode: JsonSchemaMode) -> list[tuple[type[BaseModel], JsonSchemaMode]]:
    return [(model, mode) for model in sorted(models, key=_name)]


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _template(path: str) -> str:
    return re.sub(r"{(\w+):[^}]*}", r"{\1}", path)


def _operation(route: Operation, keys: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _name_of(route),
        "summary": route.summary,
        "description": (route.handle.__doc__ or "").strip(),
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_headers(route)],
        "responses": {
            **{str(status): _answer(route, status, model, keys) for status, model in route.answers.items()},
            **{str(status): _problem(status) for status in sorted({*route.problems, 500})},
        },
    }
    if route.body is not None:
        schema = keys[route.body, "validation"]
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if not route.is_public:
        described["security"] = [{"bearer": []}]
        if route.instead_of_header == "signature":
            described["security"].append({"signature": []})
    return described


def _path_parameters(route: Operation) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)", route.path)
    return [{"name": name, "in": "path", "required": True, "schema": _ID if name == "id" else _KEY} for name in names]


def _query_parameters(route: Operation) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema(ref_template=_REF)
    return [{"name": name, "in": "query", "schema": field} for name, field in schema["properties"].items()]


def _headers(route: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "description": what, "schema": _HEADERS_TAKEN.get(name, _KEY)}
        for name, what in route.headers.items()
    ]


def _answer(route: Operation, status: int, model: type[BaseModel] | None, keys: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if model is not None:
        described["content"] = {"application/json": {"schema": keys[model, "serialization"]}}
    elif status in {200, 206} and route.media_types:
        described["content"] = {media_type: {} for media_type in route.media_types}
    if headers := {name: _HEADERS_GIVEN[name] for name in route.gives_headers}:
        described["headers"] = headers
    return described


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model=Problem.__name__)}
    described: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {problems.CONTENT_TYPE: {"schema": schema}},
    }
    if names := _PROBLEM_HEADERS.get(status):
        described["headers"] = {name: _HEADERS_GIVEN[name] for name in names}
    return described
