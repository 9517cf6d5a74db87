"""The inputs of a cog model, filled from the fields of a job.

Each model names its inputs as it likes; `/openapi.json` has their types, limits and choices.
Source: cog `docs/http.md`, and schemas of models on Replicate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from common.application.capabilities import Capabilities, Feature, Model
from common.domain.errors import Denied, Rejected
from services.generator.inference.job import Job
from services.generator.inference.samplers import named_samplers
from services.generator.inference.supported import DEFAULT_SAMPLER, require_default

# Our field, and the names that models have for it; the first one that the model has is used.
_NAMES: Final = {
    "prompt": ("prompt", "text", "text_prompt"),
    "negative_prompt": ("negative_prompt", "neg_prompt", "uc_prompt"),
    "width": ("width", "image_width"),
    "height": ("height", "image_height"),
    "steps": ("num_inference_steps", "steps", "num_steps", "inference_steps", "ddim_steps"),
    "cfg_scale": ("guidance_scale", "cfg_scale", "guidance", "cfg", "scale"),
    "sampler": ("scheduler", "sampler", "sampler_name"),
    "seed": ("seed",),
    "hires_fix": ("hires_fix", "highres_fix"),
}
# What we ask of every model that can be asked: one picture, without loss.
_FIXED: Final[dict[str, tuple[object, ...]]] = {
    "num_outputs": (1,),
    "num_images": (1,),
    "output_format": ("png", "webp", "jpg", "jpeg"),
}
_MAX_INPUTS: Final = 200
_MAX_CHOICES: Final = 500


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input: its type in JSON Schema, its limits and its choices."""

    name: str
    type: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class CogModel:
    """The model of a container."""

    inputs: Mapping[str, ModelInput]
    required: tuple[str, ...]
    can_stream: bool
    names: Mapping[str, ModelInput] = field(default_factory=dict)  # by our field

    def capabilities(self, *, names: tuple[str, ...], version: str | None) -> Capabilities:
        sampler = self.names.get("sampler")
        samplers = named_samplers(str(each) for each in sampler.choices) if sampler else {DEFAULT_SAMPLER: ""}
        features = [Feature.CANCEL, *([Feature.PROGRESS] if self.can_stream else [])]
        features += [each for each in (Feature.NEGATIVE_PROMPT, Feature.HIRES_FIX) if each.value in self.names]
        model = {"max_width": self._maximum("width"), "max_height": self._maximum("height")}
        return Capabilities(
            engine="cog",
            dialect="cog",
            version=version,
            notice=None if "seed" in self.names else "the model has no seed: an order cannot be repeated",
            models=tuple(Model(id=name, max_steps=self._maximum("steps"), **model) for name in names),
            samplers=tuple(samplers),
            features=tuple(features),
        )

    def _maximum(self, name: str) -> Any:
        found = self.names.get(name)
        return int(found.maximum) if found and found.maximum is not None else None


def parse_model(document: Any) -> CogModel:
    """The model in the OpenAPI document of a container.

    Raises:
        Denied: the document does not describe it, or it has no prompt.
    """
    schemas = _object(_object(_object(document).get("components")).get("schemas"))
    described = _object(schemas.get("Input"))
    properties = _object(described.get("properties"))
    if not properties:
        raise Denied("the container does not describe its inputs: build it with cog, or add .cog/openapi_schema.json")
    inputs = {name: _input(name, _object(found), schemas) for name, found in list(properties.items())[:_MAX_INPUTS]}
    names = {ours: inputs[theirs[0]] for ours, all_theirs in _NAMES.items() if (theirs := [*_in(all_theirs, inputs)])}
    if "prompt" not in names:
        raise Denied("the model of the container has no input for a prompt")
    required = described.get("required")
    post = _object(_object(_object(_object(document).get("paths")).get("/predictions")).get("post"))
    model = CogModel(
        inputs=inputs,
        required=tuple(each for each in required if isinstance(each, str)) if isinstance(required, list) else (),
        can_stream=bool(post.get("x-cog-streaming")),
        names=names,
    )
    _require_known_inputs(model)
    return model


def _in(names: tuple[str, ...], inputs: Mapping[str, ModelInput]) -> list[str]:
    return [name for name in names if name in inputs]


def _require_known_inputs(model: CogModel) -> None:
    known = {found.name for found in model.names.values()} | _FIXED.keys() | {"aspect_ratio"}
    if unknown := [name for name in model.required if name not in known]:
        raise Denied(f"the model of the container requires inputs that no request has: {', '.join(unknown[:10])}")


def _input(name: str, found: dict[str, Any], schemas: dict[str, Any]) -> ModelInput:
    """Choices are a schema of their own: `allOf` with one reference, or the reference itself."""
    referred = [_object(each) for each in found.get("allOf") or [found] if isinstance(each, dict)]
    merged = dict(found)
    for each in referred:
        if isinstance(reference := each.get("$ref"), str):
            merged |= _object(schemas.get(reference.rpartition("/")[2]))
    choices = merged.get("enum")
    kind = merged.get("type")
    return ModelInput(
        name=name,
        type=kind if isinstance(kind, str) else None,
        minimum=_number(merged.get("minimum")),
        maximum=_number(merged.get("maximum")),
        choices=tuple(choices[:_MAX_CHOICES]) if isinstance(choices, list) else (),
    )


def order_input(job: Job, model: CogModel) -> dict[str, object]:
    """The inputs for this job.

    Raises:
        Rejected: the model has no input for a field, or not with this value; the text begins with the field's name.
    """
    given: dict[str, object] = {"prompt": _fitting("prompt", job.prompt, model)}
    if job.negative_prompt:
        given["negative_prompt"] = _fitting("negative_prompt", job.negative_prompt, model)
    for name in ("steps", "cfg_scale", "sampler", "hires_fix"):
        if name not in model.names:
            require_default(job, name)
        else:
            given[name] = _fitting(name, _value(job, name, model), model)
    if "seed" in model.names:
        given["seed"] = _fitting("seed", job.seed, model)
    order = {model.names[name].name: value for name, value in given.items()}
    return order | _size(job, model) | _fixed(model)


def _value(job: Job, name: str, model: CogModel) -> object:
    if name == "sampler" and (choices := model.names[name].choices):
        return named_samplers(str(each) for each in choices).get(job.sampler, job.sampler)
    return getattr(job, name)


def _fitting(name: str, value: object, model: CogModel) -> object:
    """The value as the model takes it."""
    wanted = model.names.get(name)
    if wanted is None:
        raise Rejected(f"{name}: the model of the inference service has no such input")
    if wanted.type == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if wanted.type == "integer" and not isinstance(value, int):
        raise Rejected(f"{name}: the model takes whole numbers only, not {value}")
    if wanted.choices and value not in wanted.choices:
        raise Rejected(f"{name}: the model takes {', '.join(map(str, wanted.choices[:20]))} only, not {value!r}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if wanted.minimum is not None and value < wanted.minimum:
            raise Rejected(f"{name}: the model takes at least {wanted.minimum:g}, not {value}")
        if wanted.maximum is not None and value > wanted.maximum:
            raise Rejected(f"{name}: the model takes at most {wanted.maximum:g}, not {value}")
    return value


def _size(job: Job, model: CogModel) -> dict[str, object]:
    """Width and height, or the ratio of both, if the model takes no more; the size of its picture is checked."""
    ratio = model.inputs.get("aspect_ratio")
    if "width" in model.names and "height" in model.names:
        size = {model.names[name].name: _fitting(name, getattr(job, name), model) for name in ("width", "height")}
        return size | ({"aspect_ratio": "custom"} if ratio and "custom" in ratio.choices else {})
    if ratio is None:
        raise Rejected("width: the model of the inference service takes no size")
    divisor = math.gcd(job.width, job.height)
    wanted = f"{job.width // divisor}:{job.height // divisor}"
    if wanted not in ratio.choices:
        listed = ", ".join(map(str, ratio.choices[:20]))
        raise Rejected(f"width: the model paints with the ratios {listed} only, and {wanted} is not one of them")
    return {"aspect_ratio": wanted}


def _fixed(model: CogModel) -> dict[str, object]:
    fixed: dict[str, object] = {}
    for name, wanted in _FIXED.items():
        if found := model.inputs.get(name):
            usable = [value for value in wanted if not found.choices or value in found.choices]
            fixed |= {name: usable[0]} if usable else {}
    return fixed


def _object(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _number(found: Any) -> float | None:
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return found if is_number and abs(found) <= 1e12 else None
