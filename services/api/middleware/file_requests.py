"""The conditions and the range of a request for a file (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest

from common.domain.errors import Invalid
from common.media.port import FileVersion

_RANGE: Final = re.compile(r"bytes=(?:(?P<first>\d{1,18})-(?P<last>\d{0,18})|-(?P<suffix>\d{1,18}))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Version:
    """The validators of a file, as aiohttp sends them."""

    size: int
    etag: str
    modified_s: int

    @classmethod
    def of_stored(cls, found: FileVersion) -> Version:
        return cls(found.size, found.etag, math.ceil(found.changed_at.timestamp()))

    @classmethod
    def of(cls, path: Path) -> Version:
        """
        Raises:
            OSError: the file cannot be read.
        """
        found = path.stat()
        return cls(found.st_size, f"{found.st_mtime_ns:x}-{found.st_size:x}", math.ceil(found.st_mtime))


class RangeNotSatisfiable(Invalid):
    """The range lies behind the end of the file, which has `size` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the file has {size} bytes", code="range_not_satisfiable")
        self.size = size


def check_conditions(request: web.Request, version: Version) -> None:
    """
    Raises:
        Invalid: `precondition_failed`, the client wants another version of the file.
        RangeNotSatisfiable: the file has no byte of the range.
    """
    wanted = request.if_match
    if wanted is not None:
        is_met = any(each.value == "*" or (each.value == version.etag and not each.is_weak) for each in wanted)
    else:
        since = request.if_unmodified_since
        is_met = since is None or version.modified_s <= since.timestamp()
    if not is_met:
        raise Invalid("the file is another version", code="precondition_failed")
    match = _RANGE.fullmatch(request.headers.get(hdrs.RANGE, "").strip())
    if match is not None and not is_range_ignored(request, version):
        first, suffix = match["first"], match["suffix"]
        if (first is not None and int(first) >= version.size) or (suffix is not None and int(suffix) == 0):
            raise RangeNotSatisfiable(version.size)


def is_unmodified(request: web.Request, version: Version) -> bool:
    """Whether the client has this version already (If-None-Match, else If-Modified-Since)."""
    if (known := request.if_none_match) is not None:
        return any(each.value in {version.etag, "*"} for each in known)
    since = request.if_modified_since
    return since is not None and version.modified_s <= since.timestamp()


def wanted_part(request: web.Request, version: Version) -> tuple[int, int] | None:
    """The first byte that the client wants, and the one behind the last; None for the whole file."""
    match = _RANGE.fullmatch(request.headers.get(hdrs.RANGE, "").strip())
    if match is None or is_range_ignored(request, version):
        return None
    if match["suffix"] is not None:
        return max(0, version.size - int(match["suffix"])), version.size
    return int(match["first"]), min(int(match["last"] or version.size) + 1, version.size)


class PictureFile(web.FileResponse):
    """A file that is sent whole where aiohttp would refuse a range, or send one of another version."""

    def __init__(self, path: Path, version: Version, *, headers: dict[str, str]) -> None:
        super().__init__(path, headers=headers)
        self._version = version

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Send the head; a range that does not count is hidden from aiohttp, and a condition that is checked here."""
        if hdrs.RANGE in request.headers:
            hidden = {hdrs.IF_RANGE, *([hdrs.RANGE] if is_range_ignored(request, self._version) else [])}
            headers = request.headers.copy()
            for name in hidden:
                headers.popall(name, None)
            request = request.clone(headers=headers)
        return await super().prepare(request)


async def plain_file(request: web.Request, path: Path, headers: dict[str, str]) -> PictureFile | None:
    """The response with this file; None if there is none.

    Raises:
        Invalid: `precondition_failed`, the client wants another version of the file.
        RangeNotSatisfiable: the file has no byte of the range.
    """
    version = await asyncio.to_thread(_version, path)
    if version is None:
        return None
    check_conditions(request, version)
    return PictureFile(path, version, headers=headers)


def _version(path: Path) -> Version | None:
    try:
        return Version.of(path) if path.is_file() else None
    except OSError:  # removed between the two
        return None


def is_range_ignored(request: BaseRequest, version: Version) -> bool:
    """Another unit, several ranges, an unreadable one, or one of another version (If-Range)."""
    given = request.headers.getall(hdrs.RANGE)
    match = _RANGE.fullmatch(given[0].strip()) if len(given) == 1 else None
    if request.method != "GET" or match is None or (match["last"] and int(match["last"]) < int(match["first"])):
        return True
    if (condition := request.headers.get(hdrs.IF_RANGE)) is None:
        return False
    date = request.if_range
    if date is not None:
        return date.timestamp() != version.modified_s
    return condition.strip() != f'"{version.etag}"'  # only a strong validator counts
