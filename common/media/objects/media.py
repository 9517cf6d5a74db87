"""The media store in objects below one prefix of a bucket.

A picture is written by a single request: the object store shows it whole or not at all, answers once it is durable, and
keeps no part of an interrupted write. Marker and checkpoint are objects at the prefix itself.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from common.domain.errors import Misconfigured, NotAccepted, Unavailable
from common.media import keys as forms
from common.media.keys import FOLDERS, is_key, is_listed, require_key, require_listed
from common.media.objects.client import open_client, open_signer
from common.media.objects.errors import BEHIND_END, NO_BUCKET, code_of, unavailable
from common.media.objects.links import SignedLinks
from common.media.objects.location import Location
from common.media.port import FilePart, FileVersion, PublicLink, StoredFile
from common.runtime.clock import Clock, SystemClock, whole_ms
from common.runtime.setting_groups.objects import ObjectStoreSettings
from common.runtime.uncancelled import run_to_end

if TYPE_CHECKING:
    from obstore import Attributes, ObjectMeta

T = TypeVar("T")

AT_ONCE: Final = 32  # requests of one process
PAGE: Final = 1000  # objects in one list of `walk`, and in one request that removes
LISTED_FROM: Final = 20  # so many keys of a folder are looked for in its list, fewer one by one
CHECK_AGE_S: Final = 5.0  # a check that succeeded counts this long: each costs three requests

_MARKER: Final = ".darkroom-store"
_CHECKPOINT: Final = ".darkroom-checkpoint"
_TYPES: Final = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
# as the api says of its files: the bytes under a key never change, and not everybody may see them
_CACHE: Final = "private, max-age=31536000, immutable"


class ObjectMedia:
    """Opened by `open`; the contract of the methods is in `common/media/port.py`."""

    def __init__(self, client: S3Store, links: SignedLinks | None, clock: Clock) -> None:
        self._client = client
        self._links = links
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._probe_name = forms.probe(secrets.token_hex(8))
        self._store_id: str | None = None  # once `mark` was called
        self._checking = asyncio.Lock()
        self._checked_s = float("-inf")

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        location: Location,
        settings: ObjectStoreSettings,
        *,
        clock: Clock | None = None,
        read_only: bool = False,
    ) -> AsyncIterator[ObjectMedia]:
        """Write and remove an object where the pictures of this month go, unless it is `read_only`.

        Raises:
            Misconfigured: the bucket does not exist, or these keys may not write to it.
            Unavailable: the object store does not answer.
        """
        clock = clock or SystemClock()
        signer = open_signer(location, settings)
        media = cls(open_client(location, settings), SignedLinks(signer, clock) if signer else None, clock)
        try:
            if read_only:
                await media._require_bucket()
            else:
                await asyncio.gather(*(media._probe(folder) for folder in FOLDERS))
        except NotAccepted as error:
            raise Misconfigured(f"MEDIA_ROOT: {error.detail}", code="bad_setting") from error
        yield media

    async def put(self, key: str, content: bytes) -> None:
        extension = require_key(key).rpartition(".")[2]
        attributes: Attributes = {"Content-Type": _TYPES[extension], "Cache-Control": _CACHE}
        # a request that is given up may still be carried out, after the caller has removed its object
        await run_to_end(self._put(key, content, attributes))

    async def get(self, key: str) -> bytes | None:
        return await self._get(require_key(key))

    async def version(self, key: str) -> FileVersion | None:
        found = await self._head(require_key(key))
        if found is None:
            await self._require_bucket()
        return None if found is None else _version(found)

    async def read(self, key: str, *, start: int, length: int) -> FilePart | None:
        require_key(key)

        async def read() -> FilePart | None:
            result = await obstore.get_async(self._client, key, options={"range": (start, start + length)})
            return FilePart(bytes(await result.bytes_async()), _version(result.meta))

        try:
            return await self._call(read) if length > 0 else await self._nothing_of(key)
        except _BehindEnd:
            return await self._nothing_of(key)

    async def link(self, key: str) -> PublicLink | None:
        links = self._links
        if links is None or (known := links.known(require_key(key))) is not None:
            return None if links is None else known
        # a browser should get our answer about a lost file, not that of the object store
        return await self._call(lambda: links.make(key)) if await self.version(key) is not None else None

    def path(self, _key: str) -> Path | None:
        return None

    async def exists(self, keys: Collection[str]) -> set[str]:
        wanted = sorted({key for key in keys if is_key(key)})
        folders = [list(group) for _, group in groupby(wanted, lambda key: key.rpartition("/")[0])]
        found = set[str]().union(*await asyncio.gather(*map(self._existing, folders)))
        if len(found) < len(wanted):
            await self._require_bucket()  # which must not look like lost files
        return found

    async def remove(self, keys: Collection[str]) -> None:
        chosen = [require_listed(key) for key in keys]
        pages = [chosen[start : start + PAGE] for start in range(0, len(chosen), PAGE)]
        for page in pages:
            if not await self._delete(page):  # Google refuses to remove what is not there
                for key in page:
                    await self._delete([key])

    async def walk(self) -> AsyncIterator[list[StoredFile]]:
        page: list[StoredFile] = []
        for folder in FOLDERS:
            async for found in self._list(folder):
                page += [_stored(each) for each in found if is_listed(each["path"])]
                if len(page) >= PAGE:
                    yield page[:PAGE]
                    page = page[PAGE:]
        if page:
            yield page

    async def marker(self) -> str | None:
        return await self._note(_MARKER)

    async def mark(self, store_id: str) -> None:
        if await self.marker() != store_id:
            await self._put(_MARKER, f"{store_id}\n".encode("ascii"))
        self._store_id = store_id

    async def checkpoint(self) -> int | None:
        text = await self._note(_CHECKPOINT) or ""
        return int(text) if re.fullmatch("[0-9]{1,18}", text) else None

    async def set_checkpoint(self, number: int) -> None:
        await self._put(_CHECKPOINT, f"{number}\n".encode("ascii"))

    async def check(self) -> None:
        async with self._checking:  # one at a time: anyone may ask for one
            if self._clock.monotonic() - self._checked_s >= CHECK_AGE_S:
                await self._check()
                self._checked_s = self._clock.monotonic()

    async def _check(self) -> None:
        if self._store_id is not None and await self.marker() != self._store_id:
            raise Unavailable("media", "the bucket does not hold the marker of this store: is MEDIA_ROOT right?")
        await self._probe(FOLDERS[0])

    async def _probe(self, folder: str) -> None:
        # it has the name of a temporary file, so it is swept if this process is killed; the check after a cancelled one
        # has the same
        key = f"{folder}/{self._clock.now():%Y/%m}/{self._probe_name}"
        await self._put(key, b"darkroom")
        await self._delete([key])

    async def _call(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """The result of the requests; None if the object does not exist."""
        async with self._slots:
            try:
                return await work()
            except FileNotFoundError as error:
                if code_of(error) == NO_BUCKET:
                    raise unavailable(error) from None
                return None
            except (BaseError, OSError) as error:
                if code_of(error) == BEHIND_END:
                    raise _BehindEnd from None
                self._checked_s = float("-inf")  # the check before this failure counts no more
                raise unavailable(error) from None

    async def _put(self, key: str, content: bytes, attributes: Attributes | None = None) -> None:
        await self._call(
            # never in parts: an interrupted write would leave some of them, which no list shows
            lambda: obstore.put_async(self._client, key, content, attributes=attributes, use_multipart=False)
        )

    async def _get(self, key: str) -> bytes | None:
        async def get() -> bytes:
            result = await obstore.get_async(self._client, key)
            return bytes(await result.bytes_async())

        return await self._call(get)

    async def _delete(self, keys: list[str]) -> bool:
        """Whether the object store has removed all; a key without an object may end it."""

        async def delete() -> bool:
            await obstore.delete_async(self._client, keys)
            return True

        return await self._call(delete) or False

    async def _head(self, key: str) -> ObjectMeta | None:
        return await self._call(lambda: obstore.head_async(self._client, key))

    async def _nothing_of(self, key: str) -> FilePart | None:
        version = await self.version(key)
        return None if version is None else FilePart(b"", version)

    async def _note(self, name: str) -> str | None:
        content = await self._get(name)
        return None if content is None else content[:200].decode("ascii", "replace").strip() or None

    async def _existing(self, wanted: list[str]) -> set[str]:
        """Those of these keys of one folder, in their order, that exist."""
        if len(wanted) < LISTED_FROM:
            found = await asyncio.gather(*map(self._head, wanted))
            return {key for key, each in zip(wanted, found, strict=True) if each is not None}
        folder, name = wanted[0].rsplit("/", 1)
        existing, asked = set[str](), set(wanted)
        # a list begins behind a key; the image ids begin with their time, so the keys of a sweep are neighbours
        async for page in self._list(folder, after=f"{folder}/{name[:-1]}"):
            existing |= asked & {each["path"] for each in page}
            if page[-1]["path"] >= wanted[-1]:
                break
        return existing

    async def _list(self, folder: str, *, after: str | None = None) -> AsyncIterator[list[ObjectMeta]]:
        listing = aiter(obstore.list(self._client, folder, offset=after, chunk_size=PAGE))

        async def following() -> list[ObjectMeta] | None:
            try:
                return list(await anext(listing))
            except StopAsyncIteration:
                return None

        while page := await self._call(following):
            yield page

    async def _require_bucket(self) -> None:
        """An answer to HEAD does not tell a missing object from a missing bucket; that to GET does."""
        await self._get(_MARKER)


class _BehindEnd(Exception):
    """The part lies behind the end of the object."""


def _version(found: ObjectMeta) -> FileVersion:
    etag = (found["e_tag"] or "").removeprefix("W/").strip('"')
    return FileVersion(found["size"], etag, found["last_modified"])


def _stored(found: ObjectMeta) -> StoredFile:
    return StoredFile(key=found["path"], size=found["size"], changed_at=whole_ms(found["last_modified"]))
