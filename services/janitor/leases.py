"""Which leases are over, by the janitor's own watch: a lease's `until` is of its worker's clock, which may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from common.domain.images import Image, Lease


@dataclass(frozen=True, slots=True)
class _Look:
    lease: Lease | None
    since_s: float

    def is_over(self, least_s: float, now_s: float) -> bool:
        # a worker may have been given a longer one than this janitor
        own_s = self.lease.length_s if self.lease is not None else None
        return now_s - self.since_s >= max(least_s, own_s or 0)


@dataclass(slots=True)
class LeaseWatch:
    """Remembers the lease of each running image, and since when it has stood unchanged."""

    _looks: dict[str, _Look] = field(default_factory=dict)

    def over(self, running: Sequence[Image], *, lease_s: float, now_s: float) -> list[Image]:
        """Those of all running images whose worker has not renewed for as long as its lease lasts, at least `lease_s`.

        A worker that lives renews every third of a lease. A janitor that has just begun to watch waits one lease.
        """
        self._looks = {image.id: self._look(image, now_s) for image in running}
        return [image for image in running if self._looks[image.id].is_over(lease_s, now_s)]

    def _look(self, image: Image, now_s: float) -> _Look:
        before = self._looks.get(image.id)
        return before if before is not None and before.lease == image.lease else _Look(image.lease, now_s)
