"""A copy of all media to another place, while the services run.

    marker of an unfinished copy ──▶ files, page by page ──▶ what only the target has ──▶ checkpoint ──▶ marker

The marker of an unfinished copy lets no service start on a half copy. The checkpoint is that of the beginning. If a
janitor has raised the one of the source meanwhile, the services still write there: then the target gets a number that
no sweep trusts, so that none deletes the record of a picture that only the source has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, TypeVar

from common.application.media_owner import unfinished_copy_of
from common.domain.errors import Misconfigured, ServiceError, Unavailable
from common.media.port import Media, StoredFile
from common.runtime.clock import Clock

T = TypeVar("T")

EXAMPLES: Final = 10
MAX_FAILED: Final = 100  # files: then one side is in trouble as a whole
POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """A file that was not at the target as it is at the source; `error` is why it is still not."""

    key: str
    size: int
    replaced: bool = False
    error: ServiceError | None = None


@dataclass(slots=True)
class CopyTotals:
    """The numbers of files; `gone` were deleted at the source meanwhile, `examples` are at the target only."""

    copied: int = 0
    replaced: int = 0
    unchanged: int = 0
    failed: int = 0
    gone: int = 0
    bytes: int = 0
    only_at_target: int = 0
    examples: list[str] = field(default_factory=list)
    source_in_use: bool = False

    @property
    def seen(self) -> int:
        return self.copied + self.replaced + self.unchanged + self.failed + self.gone


@dataclass(frozen=True, slots=True)
class MediaCopy:
    """`only_missing` does not read what both have; `report` gets each file that was copied or could not be."""

    source: Media
    target: Media
    report: Callable[[CopiedFile], None]
    clock: Clock
    interval_s: float  # in which a janitor raises the checkpoint
    at_once: int  # copies at a time; each holds one picture in memory
    only_missing: bool = False
    totals: CopyTotals = field(default_factory=CopyTotals)

    async def run(self) -> CopyTotals:
        """Copy what is missing or differs; nothing is removed at the target.

        Raises:
            Misconfigured: the target belongs to another store.
            Unavailable: source or target do not answer; it can be run again, and continues.
        """
        began_s = self.clock.monotonic()
        store_id = await _of_source(self.source.marker())
        checkpoint = await _of_source(self.source.checkpoint())
        await self._claim(store_id)
        await self._copy_files()
        await self._find_others()
        if self.totals.failed == 0:
            await self._finish(store_id, checkpoint, began_s)
        return self.totals

    async def _claim(self, store_id: str | None) -> None:
        """Let the target be an unfinished copy, unless a finished one is there already."""
        marked = await _of_target(self.target.marker())
        if marked is None:
            await self._require_own_files()
            if store_id is not None:
                await _of_target(self.target.mark(unfinished_copy_of(store_id)))
        elif store_id is None or marked not in {store_id, unfinished_copy_of(store_id)}:
            source = f"the source to {store_id[:36]!r}" if store_id else "the source has no marker"
            raise _foreign(f"it belongs to {marked[:60]!r}, {source}")

    async def _require_own_files(self) -> None:
        async for files in _pages(self.target, "the destination"):
            known = await _of_source(self.source.exists([file.key for file in files]))
            if len(known) * 2 < len(files):
                raise _foreign(f"{len(files) - len(known)} of {len(files)} files there are not at the source")
            return

    async def _copy_files(self) -> None:
        async for files in _pages(self.source, "the source"):
            there = await _of_target(self.target.exists([file.key for file in files]))
            missing = [file for file in files if file.key not in there]
            if self.only_missing:
                self.totals.unchanged += len(there)
            await self._copy_page(missing if self.only_missing else files, there)

    async def _copy_page(self, files: Iterable[StoredFile], there: set[str]) -> None:
        """Some at a time; the first error is raised once no copy runs any more."""
        remaining = iter(files)

        async def worker() -> None:
            for file in remaining:
                await self._copy_file(file, file.key in there)

        for outcome in await asyncio.gather(*(worker() for _ in range(self.at_once)), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _copy_file(self, file: StoredFile, is_there: bool) -> None:
        before = await self._digest(file.key) if is_there else None
        try:
            content = await self.source.get(file.key)
        except Unavailable as error:
            self._failed(file, Unavailable("the file", _reason(error)))
            return
        if content is None:
            self.totals.gone += 1
        elif sha256(content).digest() == before:
            self.totals.unchanged += 1
        else:
            await self._write(file, content, replaced=before is not None)

    async def _write(self, file: StoredFile, content: bytes, *, replaced: bool) -> None:
        await _of_target(self.target.put(file.key, content))
        size, wanted = len(content), sha256(content).digest()
        del content  # the memory of one picture for each copy
        if await self._digest(file.key) != wanted:
            self._failed(file, ServiceError("what was written is not what is read back", code="differs"))
            return
        self.totals.copied += not replaced
        self.totals.replaced += replaced
        self.totals.bytes += size
        self.report(CopiedFile(file.key, size, replaced=replaced))

    async def _digest(self, key: str) -> bytes | None:
        content = await _of_target(self.target.get(key))
        return None if content is None else sha256(content).digest()

    def _failed(self, file: StoredFile, error: ServiceError) -> None:
        self.totals.failed += 1
        self.report(CopiedFile(file.key, file.size, error=error))
        if self.totals.failed >= MAX_FAILED:
            raise Unavailable("one side", f"{self.totals.failed} files could not be copied")

    async def _find_others(self) -> None:
        """Count what is at the target only: pictures that were deleted meanwhile, or painted after the switch."""
        async for files in _pages(self.target, "the destination"):
            keys = {file.key for file in files}
            others = keys - await _of_source(self.source.exists(keys))
            self.totals.only_at_target += len(others)
            self.totals.examples += sorted(others)[: EXAMPLES - len(self.totals.examples)]

    async def _finish(self, store_id: str | None, checkpoint: int | None, began_s: float) -> None:
        """Write the checkpoint, then the marker."""
        if checkpoint is not None and checkpoint > (await _of_target(self.target.checkpoint()) or 0):
            self.totals.source_in_use = await self._is_raised_beyond(checkpoint, began_s)
            # the number of the store is above `checkpoint` then: a sweep does not trust one that differs by two
            await _of_target(self.target.set_checkpoint(checkpoint - int(self.totals.source_in_use)))
        if store_id is not None:
            await _of_target(self.target.mark(store_id))

    async def _is_raised_beyond(self, checkpoint: int, began_s: float) -> bool:
        """Whether a janitor has raised the checkpoint of the source since the copy began.

        Within two intervals of a janitor that runs it does.
        """
        until_s = began_s + 2 * self.interval_s
        while await _of_source(self.source.checkpoint()) == checkpoint:
            left_s = until_s - self.clock.monotonic()
            if left_s <= 0:
                return False
            await asyncio.sleep(min(POLL_S, left_s))
        return True


async def _pages(media: Media, what: str) -> AsyncIterator[list[StoredFile]]:
    """The files without what interrupted writes have left."""
    try:
        async for page in media.walk():
            yield [file for file in page if not file.is_leftover]
    except Unavailable as error:
        raise Unavailable(what, _reason(error)) from error


async def _of_source(answer: Awaitable[T]) -> T:
    return await _named(answer, "the source")


async def _of_target(answer: Awaitable[T]) -> T:
    return await _named(answer, "the destination")


async def _named(answer: Awaitable[T], what: str) -> T:
    """The answer; an error names the side that it is of."""
    try:
        return await answer
    except Unavailable as error:
        raise Unavailable(what, _reason(error)) from error


def _reason(error: Unavailable) -> str:
    return error.detail.removeprefix(f"{error.what} is unavailable").removeprefix(": ")


def _foreign(reason: str) -> Misconfigured:
    return Misconfigured(f"the destination seems to be of another store: {reason}", code="media_foreign")
