"""The models that the running generators offer, at one moment.

live heartbeats ──▶ which catalogues are live ──▶ each model: its samplers, its limits, its pool, whether it is live
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from common.application.capabilities import Model
from common.application.fleet.announcements import Catalogue, Heartbeat, joined, merged
from common.domain.pools import DEFAULT_POOL
from common.domain.requests import GenerationRequest

DEFAULT_MODEL: Final[str] = GenerationRequest.model_fields["model"].default


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A known model. Without a live generator its images wait."""

    model: Model
    pool: str
    is_live: bool


@dataclass(frozen=True, slots=True)
class KnownCatalogue:
    """A catalogue of the store; `expires_at` only tells the newer of two that are not live."""

    catalogue: Catalogue
    is_live: bool
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CatalogueUnion:
    """All known models, those of live generators first; empty if no generator has listed any."""

    models: tuple[OfferedModel, ...]
    unlisted: OfferedModel | None  # describes models that are not listed; None if they are refused
    engine: str | None
    notice: str | None

    def default_model(self) -> str:
        """The model of a request that names none: a live one rather than another, else `sdxl`, else the first."""
        is_live = {offered.model.id: offered.is_live for offered in self.models}
        if self.unlisted is not None:
            is_live.setdefault(DEFAULT_MODEL, self.unlisted.is_live)
        return min(is_live, key=lambda name: (not is_live[name], name != DEFAULT_MODEL), default=DEFAULT_MODEL)


class FleetView:
    """What was known of the generators when the store was read last. It does not change."""

    def __init__(self, generators: Sequence[Heartbeat], catalogues: Sequence[KnownCatalogue]) -> None:
        self._generators = generators
        self._is_known = bool(catalogues)
        self._union = _union(catalogues)
        self._by_name = {offered.model.id: offered for offered in self._union.models}

    def catalogue(self) -> CatalogueUnion:
        """The union of the live catalogues and of those of the last day."""
        return self._union

    @property
    def is_known(self) -> bool:
        """Whether any generator has announced what it can paint; until then every model is accepted."""
        return self._is_known

    def find(self, name: str) -> OfferedModel | None:
        """What is known of a model; None if no generator offers it, or if nothing is known at all."""
        return self._by_name.get(name, self._union.unlisted)

    @property
    def is_complete(self) -> bool:
        """Whether each known model has a live generator."""
        return all(offered.is_live for offered in (*self._union.models, self._union.unlisted) if offered is not None)

    def live_models(self) -> frozenset[str]:
        """The listed models that a live generator can paint."""
        return frozenset(name for name, offered in self._by_name.items() if offered.is_live)

    def is_live(self, name: str) -> bool:
        """Whether a live generator can paint this model. True while nothing is known: older generators say nothing."""
        if not self._is_known:
            return True
        offered = self.find(name)
        return offered is not None and offered.is_live

    def pool_of(self, name: str) -> str:
        """The pool whose generators paint this model, or painted it within the last day."""
        if offered := self.find(name):
            return offered.pool
        return _preferred(self.pools() or {DEFAULT_POOL})

    @property
    def generators(self) -> Sequence[Heartbeat]:
        """The live generators, each as it has announced itself."""
        return self._generators

    def pools(self) -> frozenset[str]:
        """The pools that have a live generator."""
        return frozenset(generator.pool for generator in self._generators)

    def concurrency(self, pool: str) -> int:
        """How many images the live generators of a pool work on at once; 0 if there is none."""
        return sum(generator.concurrency for generator in self._generators if generator.pool == pool)


def _union(catalogues: Sequence[KnownCatalogue]) -> CatalogueUnion:
    in_order = sorted(catalogues, key=lambda known: not known.is_live)  # stable: the models keep their order
    live = [known.catalogue for known in in_order if known.is_live]
    by_name: dict[str, list[tuple[KnownCatalogue, Model]]] = {}
    for known in in_order:
        for model in known.catalogue.models:
            by_name.setdefault(model.id, []).append((known, model))
    # a catalogue that lists no models keeps none of them known: it counts while nothing better does
    unlisted = [
        (known, known.catalogue.unlisted)
        for known in in_order
        if known.catalogue.unlisted is not None and (known.is_live or not live)
    ]
    for name, found in by_name.items():
        if not any(known.is_live for known, _ in found):
            # a generator that takes any model takes this one too
            found += [(known, model.model_copy(update={"id": name})) for known, model in unlisted if known.is_live]
    shown = live or [known.catalogue for known in in_order]
    return CatalogueUnion(
        models=tuple(_offered(found) for found in by_name.values()),
        unlisted=_offered(unlisted) if unlisted else None,
        engine=joined((catalogue.engine for catalogue in shown), ", "),
        notice=joined((catalogue.notice for catalogue in shown), " "),
    )


def _offered(found: Sequence[tuple[KnownCatalogue, Model]]) -> OfferedModel:
    """The model as the live generators of its pool paint it; without any, as the newest catalogue says."""
    live = [(known.catalogue.pool, model) for known, model in found if known.is_live]
    if not live:
        known, model = max(found, key=lambda each: each[0].expires_at.timestamp() if each[0].expires_at else 0.0)
        return OfferedModel(model, known.catalogue.pool, is_live=False)
    pool = _preferred({pool for pool, _ in live})
    return OfferedModel(merged([model for of_pool, model in live if of_pool == pool]), pool, is_live=True)


def _preferred(pools: Iterable[str]) -> str:
    return min(pools, key=lambda pool: (pool != DEFAULT_POOL, pool))
