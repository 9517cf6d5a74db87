"""The announcements of generators, which are entries of the store.

    heartbeat   one for each process: its pool, its back ends, the hash of its catalogue
    catalogue   one for each set of models; its key is its hash, so generators with the same models share it

Names come from foreign servers. `catalogue_of` bounds them; it is called where a catalogue is written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.application.capabilities import Capabilities, Feature, Model, bounded
from common.domain.errors import Unreadable
from common.domain.pools import PoolName
from common.store.port import Entry

log = logging.getLogger(__name__)

HEARTBEATS: Final = "generator"  # kinds of entries
CATALOGUES: Final = "catalogue"
INTERVAL_S: Final = 15.0  # between two heartbeats of a process
MISSED_BEATS: Final = 4  # a process that has missed so many is gone
# Until the heartbeat of a killed process is removed from the store, by the clock of a janitor: far more than two clocks
# differ, or the janitor would remove the heartbeat of a running process after each beat.
HEARTBEAT_AGE_S: Final = 86_400.0
CATALOGUE_AGE_S: Final = 86_400.0  # models without a generator are known for so long
ANY_MODEL: Final = ""  # no listed model has an empty name
MAX_CATALOGUE_BYTES: Final = 500_000  # 1,000 models with usual names take 200,000; MongoDB's limit is 16 MB


class Announced(BaseModel):
    """An older reader ignores the fields that a newer generator writes."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"


class BackEndState(Announced):
    """One back end of a generator; `concurrency` is the number of images that it gets from the generator at once."""

    name: str | None = None  # older generators, with one back end, do not say it
    dialect: str | None = None
    circuit: CircuitState = CircuitState.CLOSED
    concurrency: int | None = None


class Heartbeat(Announced):
    """A running generator; without `catalogue` its back ends have not answered yet."""

    pool: PoolName
    concurrency: Annotated[int, Field(ge=1)]
    version: str
    catalogue: str | None = None
    backends: tuple[BackEndState, ...] = ()


class Catalogue(Announced):
    """What a generator can paint. `unlisted` describes all other models, if a back end does not list its models."""

    pool: PoolName
    engine: str | None = None
    notice: str | None = None
    models: tuple[Model, ...] = ()
    unlisted: Model | None = None

    def find(self, name: str) -> Model | None:
        """The model of this name, or what is known of models that are not listed; None if it cannot be painted."""
        return next((model for model in self.models if model.id == name), self.unlisted)


def catalogue_of(found: Iterable[Capabilities], *, pool: str) -> Catalogue:
    """What back ends with these capabilities can paint together, with bounded names and a bounded size."""
    all_of_them = [bounded(each) for each in found]
    by_name: dict[str, list[Model]] = {}
    for each in all_of_them:
        for model in each.models or (Model(id=ANY_MODEL),):
            by_name.setdefault(model.id, []).append(_resolved(model, each))
    unlisted = by_name.pop(ANY_MODEL, None)
    return Catalogue(
        pool=pool,
        engine=joined((each.engine for each in all_of_them), ", "),
        notice=joined((each.notice for each in all_of_them), " "),
        models=_within_limit([merged(models) for models in by_name.values()]),
        unlisted=merged(unlisted) if unlisted else None,
    )


def merged(models: Sequence[Model]) -> Model:
    """The model as every one of several servers that offer it can paint it.

    Whichever of them gets an image must be able to paint it: so a sampler counts if all have it, and the lowest limits
    hold. If no sampler is common to all, each of them counts.
    """
    lists = [model.samplers for model in models if model.samplers]
    common = [name for name in lists[0] if all(name in names for names in lists)] if lists else []
    grids = [model.grid for model in models if model.grid]
    return Model(
        id=models[0].id,
        name=next((model.name for model in models if model.name), None),
        samplers=tuple(common or dict.fromkeys(name for names in lists for name in names)),
        max_width=_least(model.max_width for model in models),
        max_height=_least(model.max_height for model in models),
        max_steps=_least(model.max_steps for model in models),
        grid=math.lcm(*grids) if grids else None,
        hires_fix=all(model.hires_fix is not False for model in models),
        negative_prompt=all(model.negative_prompt is not False for model in models),
    )


def joined(texts: Iterable[str | None], separator: str) -> str | None:
    """The different texts, at most three."""
    return separator.join(list(dict.fromkeys(text for text in texts if text))[:3]) or None


def heartbeat_data(heartbeat: Heartbeat) -> dict[str, Any]:
    return heartbeat.model_dump(mode="json", exclude_none=True)


def read_heartbeat(entry: Entry) -> Heartbeat:
    """Raises Unreadable."""
    try:
        return Heartbeat.model_validate(entry.data)
    except ValidationError as error:
        raise _unreadable(entry) from error


def catalogue_data(catalogue: Catalogue) -> dict[str, Any]:
    """The stored form: models often have the same samplers, so each list is stored once, and named by its index."""
    lists: list[list[str]] = []
    data = catalogue.model_dump(mode="json", exclude_none=True)
    for model in [*data["models"], *filter(None, [data.get("unlisted")])]:
        if model["samplers"] not in lists:
            lists.append(model["samplers"])
        model["samplers"] = lists.index(model["samplers"])
    return {**data, "samplers": lists}


def catalogue_key(data: dict[str, Any]) -> str:
    """The hash of the stored form."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]


def read_catalogue(entry: Entry) -> Catalogue:
    """Raises Unreadable."""
    try:
        lists = entry.data["samplers"]
        models = [_with_samplers(model, lists) for model in entry.data["models"]]
        unlisted = entry.data.get("unlisted")
        more = {"unlisted": _with_samplers(unlisted, lists)} if unlisted is not None else {}
        return Catalogue.model_validate({**entry.data, "models": models, **more})
    except (ValidationError, LookupError, TypeError) as error:
        raise _unreadable(entry) from error


def _with_samplers(model: dict[str, Any], lists: list[list[str]]) -> dict[str, Any]:
    return {**model, "samplers": lists[model["samplers"]]}


def _resolved(model: Model, found: Capabilities) -> Model:
    """The model with what its server says about all of its models."""
    return model.model_copy(
        update={
            "samplers": model.samplers or found.samplers,
            "hires_fix": _offers(found, Feature.HIRES_FIX, model.hires_fix),
            "negative_prompt": _offers(found, Feature.NEGATIVE_PROMPT, model.negative_prompt),
        }
    )


def _offers(found: Capabilities, feature: Feature, of_model: bool | None) -> bool | None:
    if of_model is not None or found.features is None:
        return of_model
    return feature in found.features


def _within_limit(models: list[Model]) -> tuple[Model, ...]:
    """The first models that an entry of the store can hold."""
    left, lists = MAX_CATALOGUE_BYTES, set[tuple[str, ...]]()
    for count, model in enumerate(models):
        new = () if model.samplers in lists else model.samplers
        lists.add(model.samplers)
        left -= len(model.model_copy(update={"samplers": new}).model_dump_json().encode())
        if left < 0:
            log.warning("%d of %d models are announced, the others are too much for one entry", count, len(models))
            return tuple(models[:count])
    return tuple(models)


def _least(numbers: Iterable[int | None]) -> int | None:
    return min((number for number in numbers if number is not None), default=None)


def _unreadable(entry: Entry) -> Unreadable:
    return Unreadable("store", f"the announcement {entry.key!r} of a generator cannot be read")
