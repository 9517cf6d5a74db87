"""Expiry of leases, by how long the janitor has seen each one unchanged.

The `until` of a lease is by the clock of its worker, which may be wrong, so it is not used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from common.domain.images import Image, Lease


@dataclass(frozen=True, slots=True)
class _Observation:
    lease: Lease | None
    since_s: float

    def has_expired(self, min_length_s: float, now_s: float) -> bool:
        # the worker's setting may be longer than this janitor's
        length_s = self.lease.length_s if self.lease is not None else None
        return now_s - self.since_s >= max(min_length_s, length_s or 0)


@dataclass(slots=True)
class LeaseWatch:
    """Remembers the lease of each running image, and since when it has been unchanged."""

    _observations: dict[str, _Observation] = field(default_factory=dict)

    def expired(self, running: Sequence[Image], *, lease_s: float, now_s: float) -> list[Image]:
        """The images whose worker has not renewed its lease for the lease's length, at least `lease_s`.

        `running` must be all running images. A worker renews its lease at each third of its length. A janitor that has
        just started waits for one full lease.
        """
        self._observations = {image.id: self._observe(image, now_s) for image in running}
        return [image for image in running if self._observations[image.id].has_expired(lease_s, now_s)]

    def _observe(self, image: Image, now_s: float) -> _Observation:
        before = self._observations.get(image.id)
        return before if before is not None and before.lease == image.lease else _Observation(image.lease, now_s)
