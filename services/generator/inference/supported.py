"""The check of a job against the capabilities of its back end."""

from __future__ import annotations

from typing import Any, Final

from common.application.capabilities import Capabilities, Feature, Model
from common.domain.errors import Rejected
from common.domain.requests import GenerationRequest
from services.generator.inference.job import Job

_SHOWN = 20  # names in the text of an error
# A request always has these, whether its owner chose them or not: so the default means nothing.
_DEFAULTS: Final[dict[str, Any]] = {
    name: GenerationRequest.model_fields[name].default for name in ("steps", "cfg_scale", "sampler", "hires_fix")
}
DEFAULT_SAMPLER: Final[str] = _DEFAULTS["sampler"]


def require_supported(job: Job, capabilities: Capabilities) -> None:
    """Refuse a field of the job that the back end would ignore or change; a missing capability is no limit.

    Raises:
        Rejected: the text begins with the name of the field.
    """
    model = _model(job, capabilities)
    samplers = model.samplers or capabilities.samplers
    if samplers and job.sampler not in samplers:
        raise Rejected(f"sampler: {job.sampler!r} is unknown to the inference service; it has {_list(samplers)}")
    _require_size(job, model)
    if model.max_steps is not None and job.steps > model.max_steps:
        raise Rejected(f"steps: the inference service takes at most {model.max_steps}, not {job.steps}")
    if job.hires_fix and not _offers(capabilities, Feature.HIRES_FIX, model.hires_fix):
        raise Rejected(f"hires_fix: the inference service does not offer it with the model {job.model!r}")
    if job.negative_prompt and not _offers(capabilities, Feature.NEGATIVE_PROMPT, model.negative_prompt):
        raise Rejected(f"negative_prompt: the inference service does not take one for the model {job.model!r}")


def require_default(job: Job, name: str) -> None:
    """Refuse any value but the default of a request, for a server that has no setting for the field.

    Raises:
        Rejected: the text begins with the name of the field.
    """
    if getattr(job, name) != _DEFAULTS[name]:
        raise Rejected(
            f"{name}: the inference service has no such setting; it can be ordered as {_DEFAULTS[name]} only"
        )


def _model(job: Job, capabilities: Capabilities) -> Model:
    if not capabilities.models:
        return Model(id=job.model)
    for model in capabilities.models:
        if model.id == job.model:
            return model
    names = [model.id for model in capabilities.models]
    raise Rejected(f"model: {job.model!r} is unknown to the inference service; it has {_list(names)}")


def _require_size(job: Job, model: Model) -> None:
    for name, side, limit in (("width", job.width, model.max_width), ("height", job.height, model.max_height)):
        if limit is not None and side > limit:
            raise Rejected(f"{name}: the inference service paints at most {limit} pixels, not {side}")
        if model.grid is not None and side % model.grid:
            raise Rejected(f"{name}: the inference service paints multiples of {model.grid} pixels only, not {side}")


def _offers(capabilities: Capabilities, feature: Feature, of_model: bool | None) -> bool:
    if of_model is not None:
        return of_model
    return capabilities.features is None or feature in capabilities.features


def _list(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
