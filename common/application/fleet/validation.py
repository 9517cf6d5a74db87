"""The check of a request against what the generators offer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from common.application.capabilities import Model
from common.application.fleet.view import FleetView
from common.domain.errors import Invalid
from common.domain.requests import GenerationRequest

NO_GENERATOR: Final = "no generator with this model is running"
_MAX_LISTED: Final = 50  # names in a text


def require_offered(request: GenerationRequest, view: FleetView) -> None:
    """Refuse a request that no generator can paint. A model whose generators are gone is not refused: it may wait.

    Raises:
        Invalid: `unknown_model`, `unknown_sampler`, or `not_supported` for all that the model does not support.
    """
    offered = view.find(request.model)
    if offered is not None:
        _require_supported(request, offered.model)
    elif view.is_known:
        names = listed([each.model.id for each in view.catalogue().models])
        raise Invalid(
            f"no generator has the model {request.model!r}; there is {names}",
            code="unknown_model",
            fields={"model": f"one of {names}"},
        )


def waiting_for(model: str, view: FleetView) -> str | None:
    """What a queued image of this model waits for, besides its turn."""
    return None if view.is_live(model) else NO_GENERATOR


def listed(names: Collection[str]) -> str:
    """The names, of very many only the first."""
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(list(names)[:_MAX_LISTED]) + more


def _require_supported(request: GenerationRequest, model: Model) -> None:
    if model.samplers and request.sampler not in model.samplers:
        names = listed(model.samplers)
        raise Invalid(
            f"the model {request.model!r} has no sampler {request.sampler!r}; it has {names}",
            code="unknown_sampler",
            fields={"sampler": f"one of {names}"},
        )
    wrong = {
        name: text
        for name, limit, number, text in (
            ("width", model.max_width, request.width, f"at most {model.max_width} pixels"),
            ("height", model.max_height, request.height, f"at most {model.max_height} pixels"),
            ("steps", model.max_steps, request.steps, f"at most {model.max_steps}"),
        )
        if limit is not None and number > limit
    }
    for name, side in (("width", request.width), ("height", request.height)):
        if model.grid and side % model.grid:
            wrong.setdefault(name, f"a multiple of {model.grid} pixels")
    if request.hires_fix and model.hires_fix is False:
        wrong["hires_fix"] = "false"
    if request.negative_prompt and model.negative_prompt is False:
        wrong["negative_prompt"] = "empty"
    if wrong:
        limits = "; ".join(f"{name} must be {text}" for name, text in wrong.items())
        raise Invalid(
            f"the model {request.model!r} does not support this: {limits}", code="not_supported", fields=wrong
        )
