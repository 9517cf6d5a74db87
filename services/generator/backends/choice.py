"""The choice of a back end for an image: pure functions of what is known at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from common.application.capabilities import Model


@dataclass(frozen=True, slots=True)
class Needs:
    """What an image needs of its back end; `first` is the back end that may have its work already."""

    model: str
    sampler: str
    first: str | None = None


class Candidate(Protocol):
    """What is read of a back end here."""

    @property
    def name(self) -> str: ...
    @property
    def is_open(self) -> bool: ...
    @property
    def is_known(self) -> bool: ...
    @property
    def adopts(self) -> bool: ...
    @property
    def jobs(self) -> int: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def paints_at_once(self) -> int: ...
    @property
    def model_names(self) -> frozenset[str] | None: ...
    def find(self, model: str) -> Model | None: ...


C = TypeVar("C", bound=Candidate)


def able(needs: Needs, backends: Iterable[C]) -> list[C]:
    """The back ends that can take the image now, or as soon as they have a free slot.

    One that has answered counts before one that has not, and one with the sampler before one without. The back end that
    may have the work counts alone, if it can continue it: any other would paint the picture again.
    """
    having = [each for each in backends if each.find(needs.model) is not None]
    having = [each for each in having if each.is_known] or having
    having = [each for each in having if _has_sampler(each, needs)] or having
    closed = [each for each in having if not each.is_open]
    return [each for each in closed if each.name == needs.first and each.adopts] or closed


def chosen(candidates: Sequence[C], needs: Needs) -> C | None:
    """The one with a free slot that has the least to do; the first one asked before others. None: all are busy."""
    free = [each for each in candidates if each.jobs < each.concurrency]
    return min(free, key=lambda each: (each.name != needs.first, each.jobs / each.paints_at_once), default=None)


def places(backends: Sequence[C]) -> int:
    """How many images the generator takes from the queue at once.

    As many as can be painted. If the back ends have different models, one more for each further back end may wait here
    for the one that has its model; or that one would have nothing to do whenever it ends a picture.
    """
    closed = [each for each in backends if not each.is_open]
    slots = sum(each.concurrency for each in closed)
    return slots + len(closed) - 1 if len({each.model_names for each in closed}) > 1 else slots


def _has_sampler(backend: Candidate, needs: Needs) -> bool:
    model = backend.find(needs.model)
    return model is not None and (not model.samplers or needs.sampler in model.samplers)
