"""The fields that a request leaves open, filled in so that the generators can paint it."""

from __future__ import annotations

import math
from typing import Any, Final

from common.application.capabilities import Model
from common.application.fleet.view import FleetView
from common.domain.requests import GenerationRequest

_DEFAULTS: Final = GenerationRequest(prompt="-")
_MIN_SIDE, _SIDE_STEP = 64, 8  # of any request


def completed(request: GenerationRequest, view: FleetView) -> GenerationRequest:
    """The request with a model that is there, if it names none, and with values that this model has.

    What it names itself stays as it is, and is refused if the model does not have it.
    """
    named = request.model_fields_set
    name = request.model if "model" in named else view.catalogue().default_model()
    found: dict[str, Any] = {"model": name}
    if (offered := view.find(name)) is not None:
        found |= default_values(offered.model)
    return request.model_copy(update={field: value for field, value in found.items() if field not in named})


def default_values(model: Model) -> dict[str, Any]:
    """Size, steps and sampler of a request that leaves them open: the defaults, or what is nearest to them."""
    return {
        "width": _side(_DEFAULTS.width, model.max_width, model.grid),
        "height": _side(_DEFAULTS.height, model.max_height, model.grid),
        "steps": min(_DEFAULTS.steps, model.max_steps or _DEFAULTS.steps),
        "sampler": _sampler(model),
    }


def _side(default: int, limit: int | None, grid: int | None) -> int:
    side, step = min(default, limit or default), math.lcm(_SIDE_STEP, grid or 1)
    return max(side - side % step, step, _MIN_SIDE)


def _sampler(model: Model) -> str:
    has_default = not model.samplers or _DEFAULTS.sampler in model.samplers
    return _DEFAULTS.sampler if has_default else model.samplers[0]
