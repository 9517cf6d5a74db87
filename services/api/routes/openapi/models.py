"""The models that can be requested now, in the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from common.application.capabilities import Model
from common.application.fleet.view import CatalogueUnion
from services.api.routes.openapi import examples

_REQUEST: Final = "GenerationRequest"


def with_offers(document: dict[str, Any], union: CatalogueUnion) -> dict[str, Any]:
    """The document with the models that can be requested now, their samplers and their limits, if they are known."""
    models = {offered.model.id: offered.model for offered in union.models}
    unlisted = union.unlisted.model if union.unlisted is not None else None
    if not models and unlisted is None:
        return document
    components = document["components"]
    request = dict(components["schemas"][_REQUEST])
    if unlisted is None:
        request = _with_values(request, "model", list(models), default=union.default_model())
    samplers = [model.samplers for model in (*models.values(), *filter(None, [unlisted]))]
    if all(samplers):  # else some model may have any sampler
        request = _with_values(request, "sampler", list(dict.fromkeys(name for names in samplers for name in names)))
    conditions = [_condition(request, _is_model(name, request), model) for name, model in models.items()]
    if unlisted is not None:
        is_listed = {"properties": {"model": {"enum": list(models)}}, "required": ["model"]}
        conditions.append(_condition(request, {"not": is_listed}, unlisted))
    if found := list(filter(None, conditions)):
        request["allOf"] = found
    request["examples"] = [_offered(example, models, unlisted, request) for example in request.get("examples", [])]
    schemas = {**components["schemas"], _REQUEST: request}
    offered = {**document, "components": {**components, "schemas": schemas}}
    return examples.adapted(
        offered, lambda example: _offered(example, models, unlisted, request), model=next(iter(models), None)
    )


def _with_values(
    request: dict[str, Any], name: str, values: list[str], *, default: str | None = None
) -> dict[str, Any]:
    """A field with these values only; without a default that holds for all, the model decides about it."""
    described = {**request["properties"][name], "enum": values}
    if default is not None:
        described["default"] = default
    elif described.get("default") not in values:
        described.pop("default", None)
    return {**request, "properties": {**request["properties"], name: described}}


def _is_model(name: str, request: dict[str, Any]) -> dict[str, Any]:
    """The condition that a request is for this model."""
    is_default = request["properties"]["model"].get("default") == name
    return {"properties": {"model": {"const": name}}, "required": [] if is_default else ["model"]}


def _condition(request: dict[str, Any], is_for_it: dict[str, Any], model: Model) -> dict[str, Any] | None:
    """What a request for this model must fulfil, if that is more than what any request must."""
    known = request["properties"]
    wanted = {
        "sampler": {"enum": list(model.samplers)} if model.samplers else {},
        "width": _side(model.max_width, model.grid),
        "height": _side(model.max_height, model.grid),
        "steps": {"maximum": model.max_steps} if model.max_steps is not None else {},
        "hires_fix": {"const": False} if model.hires_fix is False else {},
        "negative_prompt": {"const": ""} if model.negative_prompt is False else {},
    }
    more = {name: rules for name, rules in wanted.items() if not rules.items() <= known[name].items()}
    if not more:
        return None
    return {"if": is_for_it, "then": {"properties": more}}


def _side(maximum: int | None, grid: int | None) -> dict[str, Any]:
    return ({"maximum": maximum} if maximum is not None else {}) | ({"multipleOf": grid} if grid is not None else {})


def _offered(
    example: dict[str, Any], models: dict[str, Model], unlisted: Model | None, request: dict[str, Any]
) -> dict[str, Any]:
    """The example as a request that the models allow now."""
    default = request["properties"]["model"].get("default")
    name = example.get("model", default)
    if name is None or (name not in models and unlisted is None):
        name = default or next(iter(models))
    model = models.get(name, unlisted)
    if model is None:
        return example
    changed = dict(example)
    if "model" in example or default is None:
        changed["model"] = name
    sampler = example.get("sampler", request["properties"]["sampler"].get("default"))
    if model.samplers and sampler not in model.samplers:
        changed["sampler"] = model.samplers[0]
    if model.negative_prompt is False:
        changed.pop("negative_prompt", None)
    return changed | _within_limits(example, model, request)


def _within_limits(example: dict[str, Any], model: Model, request: dict[str, Any]) -> dict[str, int]:
    """Sides and steps that the model allows, where those of the example or the defaults are others."""
    grids = {"width": model.grid, "height": model.grid}
    wanted = {key: example.get(key, request["properties"][key]["default"]) for key in ("width", "height", "steps")}
    most = {"width": model.max_width, "height": model.max_height, "steps": model.max_steps}
    allowed = {key: min(value, most[key] or value) for key, value in wanted.items()}
    allowed = {key: value - value % (grids.get(key) or 1) for key, value in allowed.items()}
    return {key: value for key, value in allowed.items() if value != wanted[key]}
