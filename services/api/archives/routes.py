"""The routes of zip files: prepare one, download it.

    POST /api/archives/ {ids} ─▶ {url}      GET url ─▶ the zip file

A browser cannot send the header `Authorization` with a download. So the first request, which can, gets a URL with a
secret that is valid for a few minutes; the owner is checked again for each picture. The secret is in the query, because
queries are never logged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Final

from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from common.domain.errors import LimitReached, NotFound
from common.domain.file_names import content_disposition
from common.domain.images import parse_image_id
from common.domain.views import Outgoing
from common.runtime.clock import Clock
from services.api.archives.contents import ArchiveSource
from services.api.archives.prepared import LIFETIME_S, PreparedArchives
from services.api.context import Context
from services.api.middleware.patient_writes import write_piece
from services.api.routes.operation import Call, Operation, RouteGroup, answer, body_of, query_of
from services.api.routes.schema import ANY_CASE_UUID, Query

MAX_PICTURES: Final = 500
AT_ONCE: Final = 3  # downloads of one owner: each holds a picture in memory

_Id = Annotated[str, Field(pattern=ANY_CASE_UUID), AfterValidator(parse_image_id)]


class ArchiveRequest(BaseModel):
    """The pictures of a zip file, in its order."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    ids: Annotated[list[_Id], Field(min_length=1, max_length=MAX_PICTURES)]


class ArchiveQuery(Query):
    key: Annotated[str, Field(min_length=1, max_length=100, description="from the `url` of the prepared zip file")]


class ArchiveAnswer(Outgoing):
    """A zip file of `pictures` pictures under `url`, which needs no other credential, for `expiresIn` seconds."""

    url: str
    pictures: Annotated[int, Field(ge=1)]
    expires_in: Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class ArchiveRoutes:
    prepared: PreparedArchives
    clock: Clock
    source: ArchiveSource
    base_path: str
    downloads: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, context: Context) -> ArchiveRoutes:
        source = ArchiveSource(context.store, context.media)
        prepared = PreparedArchives(context.store, context.clock)
        return cls(prepared, context.clock, source, context.settings.base_path)

    async def prepare(self, call: Call[None, ArchiveRequest]) -> web.Response:
        """Prepares a zip file of completed pictures. Others are left out: they may have been deleted meanwhile."""
        ids = list(dict.fromkeys(call.body.ids))
        found = [image.id for image in await self.source.completed(call.owner, ids)]
        if not found:
            raise NotFound("there is none of these pictures", code="image_not_found")
        secret = await self.prepared.add(call.owner, found)
        url = f"{self.base_path}/api/archives/?key={secret}"
        body = ArchiveAnswer(url=url, pictures=len(found), expires_in=LIFETIME_S)
        return answer(body, status=201, headers={"Cache-Control": "no-store"})

    async def download(self, call: Call[ArchiveQuery, None]) -> web.StreamResponse:
        """Returns the zip file: the pictures as they are, and `settings.json`."""
        found = await self.prepared.get(call.query.key)
        if found is None:
            raise NotFound("there is no such zip file: it has expired, or never existed", code="archive_not_found")
        (owner, ids), now = found, self.clock.now()
        headers = {
            "Content-Type": "application/zip",
            "Content-Disposition": content_disposition(f"darkroom-{now:%Y-%m-%d}-{len(ids)}-pictures.zip"),
            "Cache-Control": "private, no-store",
        }
        response = web.StreamResponse(headers=headers)
        if call.request.method == "HEAD":
            return response
        with self._download(owner):
            await response.prepare(call.request)
            async with aclosing(self.source.pieces(owner, ids, now=now)) as pieces:
                async for piece in pieces:
                    await write_piece(call.request, response, piece)
            await response.write_eof()
        return response

    @contextmanager
    def _download(self, owner: str) -> Iterator[None]:
        if self.downloads[owner] >= AT_ONCE:
            detail = f"{AT_ONCE} zip files are being downloaded already"
            raise LimitReached(detail, code="download_limit", retry_after_s=5)
        self.downloads[owner] += 1
        try:
            yield
        finally:
            self.downloads[owner] -= 1
            if not self.downloads[owner]:
                del self.downloads[owner]


OPERATIONS: Final = (
    Operation(
        "images_archive",
        "POST",
        "/api/archives/",
        body_of(ArchiveRequest),
        ArchiveRoutes.prepare,
        "Prepare a zip file of pictures",
        answers={201: ArchiveAnswer},
        problems=(400, 401, 403, 404, 406, 408, 413, 415, 429, 503),
    ),
    Operation(
        "files_archive",
        "GET",
        "/api/archives/",
        query_of(ArchiveQuery),
        ArchiveRoutes.download,
        "Download a zip file",
        answers={200: None},
        problems=(400, 404, 413, 429, 503),
        is_public=True,
        media_types=("application/zip",),
    ),
)
GROUP: Final = RouteGroup(ArchiveRoutes.of, OPERATIONS)
