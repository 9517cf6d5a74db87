"""The capabilities of an inference service, as its back end describes them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from common.domain.texts import clean_text

log = logging.getLogger(__name__)

MAX_CAPABILITIES_BYTES: Final = 1_000_000
MAX_NAME: Final = 100  # characters; no request may name a longer model or sampler
MAX_MODELS: Final = 1_000
MAX_SAMPLERS: Final = 200  # ComfyUI has about 40 samplers with 9 schedulers each, of which a table names a part
MAX_NUMBER: Final = 1_000_000  # pixels or steps
_OF_THE_CONTRACT: Final = frozenset({"engine", "notice", "models", "samplers"})  # docs/inference-http.md


class Feature(StrEnum):
    """What a back end can do besides painting."""

    HIRES_FIX = "hires_fix"
    NEGATIVE_PROMPT = "negative_prompt"
    PROGRESS = "progress"
    PREVIEWS = "previews"
    CANCEL = "cancel"  # work in progress stops within about a second
    ADOPTION = "adoption"  # the next worker takes over the work, or the result, of one that was killed


class Model(BaseModel):
    """One model; if `samplers` is empty, those of the service apply."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    name: str | None = None
    samplers: tuple[str, ...] = ()
    max_width: int | None = None
    max_height: int | None = None
    max_steps: int | None = None
    grid: int | None = None  # both sides must be multiples of it, in pixels
    hires_fix: bool | None = None
    negative_prompt: bool | None = None


class Capabilities(BaseModel):
    """A missing field means no limit. Unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    engine: str | None = None
    notice: str | None = None
    models: tuple[Model, ...] = ()
    samplers: tuple[str, ...] = ()
    dialect: str | None = None
    version: str | None = None
    features: tuple[Feature, ...] | None = None  # None: not known
    concurrency: int | None = None  # images that it paints at once


def parse_capabilities(body: bytes) -> Capabilities | None:
    """The capabilities in the form of docs/inference-http.md, bounded; None if they are not valid."""
    try:
        found = json.loads(body)
        known = {name: found[name] for name in _OF_THE_CONTRACT & found.keys()} if isinstance(found, dict) else found
        return bounded(Capabilities.model_validate(known))
    except ValidationError as error:
        log.warning("the capabilities of the inference service are not valid: %d errors", error.error_count())
    except (ValueError, RecursionError):
        log.warning("the capabilities of the inference service are not JSON")
    return None


def bounded(found: Capabilities) -> Capabilities:
    """The same with bounded numbers and texts, since they come from another server.

    Models and samplers with a name that no request can have are left out.
    """
    return found.model_copy(
        update={
            "engine": _text(found.engine),
            "notice": _text(found.notice, 500),
            "models": tuple(_bounded_model(each) for each in found.models if _is_name(each.id))[:MAX_MODELS],
            "samplers": _names(found.samplers),
            "dialect": _text(found.dialect),
            "version": _text(found.version),
            "concurrency": _number(found.concurrency),
        }
    )


def _bounded_model(model: Model) -> Model:
    return model.model_copy(
        update={
            "name": _text(model.name),
            "samplers": _names(model.samplers),
            "max_width": _number(model.max_width),
            "max_height": _number(model.max_height),
            "max_steps": _number(model.max_steps),
            "grid": _number(model.grid),
        }
    )


def _is_name(text: str) -> bool:
    return bool(text) and clean_text(text, MAX_NAME) == text


def _names(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if _is_name(text)))[:MAX_SAMPLERS]


def _text(text: str | None, max_chars: int = MAX_NAME) -> str | None:
    return (clean_text(text, max_chars) or None) if text is not None else None


def _number(number: int | None) -> int | None:
    return number if number is not None and 0 < number <= MAX_NUMBER else None
