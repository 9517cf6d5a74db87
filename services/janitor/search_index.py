"""The search index of images that an older release has stored.

It runs once at each start: it reads all ids, and writes only what is missing. Writes of this release index themselves.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from common.domain.errors import Unavailable
from common.store.port import Store

log = logging.getLogger(__name__)

PAGE: Final = 200  # images of one write: about 50 ms of SQLite, so that other writers get their turn
REPORT: Final = 50_000  # images between two lines of the log
RETRY_S: Final = 30


async def index_old_images(store: Store) -> None:
    """Index what is missing, page by page, until the last image."""
    after_id, indexed, reported = "", 0, 0
    while True:
        try:
            page = await store.index_for_search(after_id=after_id, limit=PAGE)
        except Unavailable as error:
            log.warning("images are not indexed for the search, tried again in %d s: %s", RETRY_S, error)
            await asyncio.sleep(RETRY_S)
            continue
        if page.indexed and not indexed:
            log.info("indexing the images of an older release for the search; until then it does not find them all")
        indexed += page.indexed
        if indexed - reported >= REPORT:
            log.info("indexed %d images for the search", indexed)
            reported = indexed
        if page.last_id is None:
            break
        after_id = page.last_id
    if indexed:
        log.info("indexed %d images for the search: that was the last", indexed)
