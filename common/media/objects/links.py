"""Signed URLs at which browsers read pictures from the object store.

A URL is given out again for a while, so that the browser finds the picture in its cache; each is valid for a limited
time, which every client has at least half of left.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta
from typing import Final

from obstore import sign_async
from obstore.store import S3Store

from common.media.port import PublicLink
from common.runtime.clock import Clock

VALID_S: Final = 900
SAME_S: Final = 300  # a URL is given out for so long, and a client may use it for so long again
MOST: Final = 10_000  # are remembered, of 1 kB each


class SignedLinks:
    """The links of one process."""

    def __init__(self, signer: S3Store, clock: Clock) -> None:
        self._signer = signer
        self._clock = clock
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()  # the oldest first

    def known(self, key: str) -> PublicLink | None:
        """The link that was made for this key a while ago."""
        url, made_s = self._known.get(key, ("", float("-inf")))
        age_s = self._clock.monotonic() - made_s
        return PublicLink(url, int(2 * SAME_S - age_s)) if age_s < SAME_S else None

    async def make(self, key: str) -> PublicLink:
        url = await sign_async(self._signer, "GET", key, timedelta(seconds=VALID_S))
        self._known[key] = url, self._clock.monotonic()
        self._known.move_to_end(key)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return PublicLink(url, SAME_S)
