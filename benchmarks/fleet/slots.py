"""How busy slots were: pure functions of the paintings that the stub has noted."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlotPainting:
    """A painting on a slot of a group (a generator); the times are those of the stub's clock."""

    group: str
    image: str
    began_s: float
    takes_s: float  # as drawn: what the stub oversleeps is no work
    ended_s: float | None
    is_answered: bool

    @property
    def free_s(self) -> float:
        """When its slot was free again; never, for one that is not over."""
        return float("inf") if self.ended_s is None else self.ended_s

    def worked_s(self, begin_s: float, end_s: float) -> float:
        """Its seconds of work in this time."""
        return max(0.0, min(end_s, self.began_s + self.takes_s, self.free_s) - max(begin_s, self.began_s))


@dataclass(frozen=True, slots=True)
class SteadyWindow:
    """A time in which a steady state was observed."""

    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.begin_s

    def use(self, paintings: Iterable[SlotPainting], slots: int) -> float:
        """The share of the time of all slots in which they worked."""
        worked_s = sum(each.worked_s(self.begin_s, self.end_s) for each in paintings)
        return worked_s / (slots * self.seconds)

    def ended(self, paintings: Iterable[SlotPainting]) -> int:
        return sum(each.is_answered and self.begin_s <= each.free_s < self.end_s for each in paintings)

    def gaps(self, paintings: Iterable[SlotPainting]) -> list[float]:
        """Seconds between two paintings on a slot, for those that end and begin here.

        A painting begins on the slot of its group that has been free for longest.
        """
        moments: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for each in paintings:
            moments[each.group].append((each.began_s, 1))
            moments[each.group].append((each.free_s, 0))
        found = []
        for of_group in moments.values():
            free: deque[float] = deque()
            for moment_s, is_begin in sorted(of_group):
                if not is_begin:
                    free.append(moment_s)
                elif free:
                    since_s = free.popleft()
                    if since_s >= self.begin_s and moment_s < self.end_s:
                        found.append(moment_s - since_s)
        return found


@dataclass(frozen=True, slots=True)
class Repainted:
    """What became of the paintings of killed generators."""

    after_s: tuple[float, ...]  # from the kill until each began again
    missing: int


def repainted(paintings: Iterable[SlotPainting], killed: frozenset[str], killed_s: float) -> Repainted:
    """The paintings that killed generators had at that moment, and those of the same images that began later."""
    again: dict[str, float] = {}
    cut: set[str] = set()
    for each in paintings:
        if each.group in killed and each.began_s < killed_s and not each.is_answered:
            cut.add(each.image)
        if each.began_s > killed_s and each.group not in killed:
            again[each.image] = min(each.began_s, again.get(each.image, float("inf")))
    after = tuple(sorted(again[image] - killed_s for image in cut if image in again))
    return Repainted(after, len(cut) - len(after))


def painted_twice(paintings: Iterable[SlotPainting]) -> int:
    """How many images have a second picture."""
    seen: set[str] = set()
    twice: set[str] = set()
    for each in paintings:
        if each.is_answered:
            (twice if each.image in seen else seen).add(each.image)
    return len(twice)
