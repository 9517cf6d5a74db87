"""Answers with a stored file, of whatever media.

    plain files      aiohttp sends the file
    object store     the api reads a piece, sends it, then reads the next one

So a download holds a piece in memory, and a client that has left leaves nothing running.
"""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from common.domain.errors import Unavailable
from common.media.port import FilePart, Media
from services.api.events.waits import Disconnected
from services.api.middleware.file_requests import (
    Version,
    check_conditions,
    is_unmodified,
    plain_file,
    wanted_part,
)
from services.api.middleware.patient_writes import PIECE, write_piece

READ: Final = 4 * PIECE  # bytes read at once: most pictures take one request
_CONDITIONS: Final = (
    hdrs.RANGE,
    hdrs.IF_MATCH,
    hdrs.IF_NONE_MATCH,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
)


async def stored_file(
    request: web.Request, media: Media, key: str, headers: dict[str, str]
) -> web.StreamResponse | None:
    """The response with this file, which may be sent already; None if there is none.

    Raises:
        Invalid: `precondition_failed`, the client wants another version of the file.
        RangeNotSatisfiable: the file has no byte of the range.
        Disconnected: the client has left, or the file cannot be read to its end.
    """
    path = media.path(key)
    if path is not None:
        return await plain_file(request, path, headers)
    first: FilePart | None = None
    if request.method == "GET" and not any(name in request.headers for name in _CONDITIONS):
        first = await media.read(key, start=0, length=READ)
        found = None if first is None else first.version
    else:
        found = await media.version(key)
    if found is None:
        return None
    version = Version.of_stored(found)
    check_conditions(request, version)
    response = _response(request, version, headers)
    if response.status == web.HTTPNotModified.status_code or request.method == "HEAD":
        return response
    start, end = wanted_part(request, version) or (0, version.size)
    await response.prepare(request)
    try:
        await _send(request, response, media, key, version=version, first=first, start=start, end=end)
    except Unavailable as error:  # the head is sent: only a broken connection tells the client
        if request.transport is not None:
            request.transport.abort()
        raise Disconnected from error
    await response.write_eof()
    return response


def _response(request: web.Request, version: Version, headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    response.etag = version.etag
    response.last_modified = version.modified_s
    if is_unmodified(request, version):
        response.set_status(web.HTTPNotModified.status_code)
        return response
    response.headers[hdrs.ACCEPT_RANGES] = "bytes"
    response.content_length = version.size
    if (part := wanted_part(request, version)) is not None:
        start, end = part
        response.set_status(web.HTTPPartialContent.status_code)
        response.headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{end - 1}/{version.size}"
        response.content_length = end - start
    return response


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    media: Media,
    key: str,
    *,
    version: Version,
    first: FilePart | None,
    start: int,
    end: int,
) -> None:
    part = first
    while start < end:
        if part is None:
            part = await media.read(key, start=start, length=min(READ, end - start))
        if part is None or not part.content or part.version.etag != version.etag:
            raise Unavailable("media", "a file was removed while it was sent")
        for piece in range(0, len(part.content), PIECE):
            await write_piece(request, response, part.content[piece : piece + PIECE])
        start += len(part.content)
        part = None
