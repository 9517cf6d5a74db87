"""The OpenAPI 3.1 document of the REST routes, made from the models that validate their requests and answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.api.middleware import problems
from services.api.routes.openapi import examples
from services.api.routes.operation import AnyOperation
from services.api.routes.schema import REFERENCE_PREFIX, Problem, with_published_names

_REF: Final = REFERENCE_PREFIX + "{model}"
_ID: Final = {"type": "string", "format": "uuid"}
_KEY: Final = {"type": "string"}
_RESPONSE_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Location": {"description": "The URL of the image", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "The preference of `Prefer` that was applied (RFC 7240)", "schema": _KEY},
    "RateLimit-Policy": {"description": "The limits of the owner", "schema": {"type": "string"}},
    "RateLimit": {"description": "What is left of the limits", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}},
}
_SECURITY_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A JWT, or a key of `darkroom keys`"},
    "signature": {
        "type": "apiKey",
        "in": "query",
        "name": "signature",
        "description": "Part of the `imageUrl` of an image, together with `expires`",
    },
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "As clients of Azure send it"},
}
# by the first word of an operation's id: the groups of the page at /docs, in this order
_TAGS: Final = {
    "Generate": "Request a picture, and wait for it or not",
    "Images": "The history, and what an owner may do with an image",
    "Files": "Pictures, thumbnails and renditions; what a share link shows",
    "Models": "What can be requested, and how many requests are left",
    "OpenAI": "The surface for clients of OpenAI's Images API",
    "Status": "What operators see and do",
    "Server": "Health, metrics and the machine-readable contracts",
}
_TAG_OF: Final = {
    "generations": "Generate",
    "images": "Images",
    "tickets": "Images",
    "files": "Files",
    "shared": "Files",
    "offers": "Models",
    "openai": "OpenAI",
    "status": "Status",
}
_EVERYWHERE: Final = (403, 500)  # another host name or origin than is allowed, an internal error
_PROBLEM_HEADERS: Final = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}


def describe_rest(
    operations: Sequence[AnyOperation], *, has_identity: bool = True, public_url: str | None = None
) -> dict[str, Any]:
    """The document of a server with these settings. Its schemas are JSON Schema 2020-12."""
    keys, schemas = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        if operation.path != "/ws":  # OpenAPI cannot describe a websocket: docs/websocket.md does
            described = _operation(operation, keys, has_identity=has_identity)
            paths.setdefault(_template(operation.path), {})[operation.method.lower()] = described
    _link(paths, operations)
    for name in examples.OF_SCHEMAS.keys() & schemas.keys():
        schemas[name]["examples"] = [examples.OF_SCHEMAS[name]]
    document: dict[str, Any] = {
        "openapi": "3.1.1",
        "info": {"title": "Darkroom", "version": version("darkroom"), "license": {"name": "MIT", "identifier": "MIT"}},
        # no jsonSchemaDialect: the default of OpenAPI 3.1 is JSON Schema 2020-12, and Swagger UI warns of any other
        "tags": [{"name": name, "description": what} for name, what in _TAGS.items()],
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if public_url is not None:
        document["servers"] = [{"url": public_url}]
    if has_identity:
        document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    return with_published_names(document)


def _schemas(operations: Sequence[AnyOperation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """The reference to each model, and the schemas referred to."""
    bodies = {operation.input.body_model for operation in operations} - {None}
    answers = {model for operation in operations for model in operation.answers.values()} - {None}
    failures = {model for operation in operations for models in operation.problem_models.values() for model in models}
    failures |= {operation.error_model for operation in operations if operation.error_model is not None}
    # requests in snake_case, as the playground sends them; camelCase is accepted as well
    keys, requests = models_json_schema(_sorted(bodies, "validation"), by_alias=False, ref_template=_REF)
    more, responses = models_json_schema(_sorted(answers | failures | {Problem}, "serialization"), ref_template=_REF)
    return {**keys, **more}, {**requests.get("$defs", {}), **responses["$defs"]}


def _link(paths: dict[str, dict[str, Any]], operations: Sequence[AnyOperation]) -> None:
    """Links the answer of a generation to the operations that take the id of its image."""
    links = {
        operation.id: {"operationId": operation.id, "parameters": {"id": "$response.body#/id"}}
        for operation in operations
        if "{id" in operation.path
    }
    generation = paths.get("/v1/images/generations", {}).get("post", {"responses": {}})
    for status in {"201", "202"} & set(generation["responses"]):
        generation["responses"][status]["links"] = links


def _sorted(models: set[Any], mode: JsonSchemaMode) -> list[tuple[type[BaseModel], JsonSchemaMode]]:
    return [(model, mode) for model in sorted(models, key=_name)]


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _template(path: str) -> str:
    return re.sub(r"{(\w+):[^}]*}", r"{\1}", path)


def _operation(operation: AnyOperation, keys: dict[Any, Any], *, has_identity: bool) -> dict[str, Any]:
    statuses = {*operation.problems, *_EVERYWHERE} - (set() if has_identity else {401})
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [_TAG_OF.get(operation.id.partition("_")[0], "Server")],
        "summary": operation.summary,
        "description": f"{(operation.handle.__doc__ or '').strip()}\n\n{operation.notes}".strip(),
        "parameters": [*_path_parameters(operation), *_query_parameters(operation), *_headers(operation)],
        "responses": {
            **{str(status): _answer(operation, status, model, keys) for status, model in operation.answers.items()},
            **{str(status): _problem(operation, status, keys) for status in sorted(statuses)},
        },
    }
    if (model := operation.input.body_model) is not None:
        schema = keys[model, "validation"]
        content = {"schema": schema, "examples": examples.of_body(operation.id)}
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    if has_identity and not operation.is_public:
        described["security"] = [{"bearer": []}]
        if operation.other_credential in _SECURITY_SCHEMES:
            described["security"].append({operation.other_credential: []})
    return described


def _path_parameters(operation: AnyOperation) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)", operation.path)
    return [
        {"name": name, "in": "path", "required": True, "schema": _ID if name == "id" else _KEY} | examples.of_path(name)
        for name in names
    ]


def _query_parameters(operation: AnyOperation) -> list[dict[str, Any]]:
    model = operation.input.query_model
    if model is None:
        return []
    schema = model.model_json_schema(ref_template=_REF)
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "schema": field} | ({"required": True} if name in required else {})
        for name, field in schema["properties"].items()
    ]


def _headers(operation: AnyOperation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "description": what, "schema": _KEY} for name, what in operation.headers.items()
    ]


def _answer(
    operation: AnyOperation, status: int, model: type[BaseModel] | None, keys: dict[Any, Any]
) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if model is not None:
        others: dict[str, Any] = {media_type: {} for media_type in operation.media_types}
        described["content"] = {**others, "application/json": {"schema": keys[model, "serialization"]}}
    elif status in {200, 206} and operation.media_types:
        described["content"] = {media_type: {} for media_type in operation.media_types}
    if headers := {name: _RESPONSE_HEADERS[name] for name in operation.gives_headers}:
        described["headers"] = headers
    return described


def _problem(operation: AnyOperation, status: int, keys: dict[Any, Any]) -> dict[str, Any]:
    models = operation.problem_models.get(status, (operation.error_model or Problem,))
    content_type = problems.CONTENT_TYPE if operation.error_model is None else "application/json"
    schemas = [keys[model, "serialization"] for model in models]
    described: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {content_type: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}},
    }
    if names := _PROBLEM_HEADERS.get(status):
        described["headers"] = {name: _RESPONSE_HEADERS[name] for name in names}
    return described
