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
from services.api import problems
from services.api.context import Call, Operation
from services.api.schema import Problem

_REF: Final = "#/components/schemas/{model}"
_ID: Final = {"type": "string", "format": "uuid"}
_KEY: Final = {"type": "string"}
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
    keys, schemas = models_json_schema(
        [*((model, "validation") for model in sorted(taken, key=_name)), *_all(given, "serialization")],
        ref_template=_REF,
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.path != "/ws":  # a websocket is not described by OpenAPI: docs/websocket.md does
            paths.setdefault(_template(route.path), {})[route.method.lower()] = _operation(route, dict(keys))
    return {
        "openapi": "3.1.1",
        "info": {"title": "Darkroom", "version": version("darkroom"), "license": {"name": "MIT", "identifier": "MIT"}},
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
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


def _all(models: set[Any], mode: JsonSchemaMode) -> list[tuple[type[BaseModel], JsonSchemaMode]]:
    return [(model, mode) for model in sorted(models, key=_name)]


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _template(path: str) -> str:
    return re.sub(r"{(\w+):[^}]*}", r"{\1}", path)


def _operation(route: Operation, keys: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{route.handle.__module__.rpartition('.')[2]}_{route.handle.__name__}",
        "summary": route.summary,
        "description": (route.handle.__doc__ or "").strip(),
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_headers(route)],
        "responses": {
            **{str(status): _answer(status, model, keys) for status, model in route.answers.items()},
            **{str(status): _problem(status) for status in sorted({*route.problems, 500})},
        },
    }
    if route.body is not None:
        schema = keys[route.body, "validation"]
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if not route.is_public:
        described["security"] = [{"bearer": []}]
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
        {"name": name, "in": "header", "description": what, "schema": {"type": "string"}}
        for name, what in route.headers.items()
    ]


def _answer(status: int, model: type[BaseModel] | None, keys: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if model is not None:
        described["content"] = {"application/json": {"schema": keys[model, "serialization"]}}
    return described


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model=Problem.__name__)}
    return {"description": HTTPStatus(status).phrase, "content": {problems.CONTENT_TYPE: {"schema": schema}}}
