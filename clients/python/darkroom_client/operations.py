"""Operations of images that exist: read, history, cancel, delete, pin, the offered models, the limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypedDict, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel

from darkroom_client.answers import check, read_images, read_model
from darkroom_client.effects import Answer, Operation, send
from darkroom_client.errors import Conflict, DarkroomError, NotFound
from darkroom_client.models import HistoryPage, Image, Limits, Offers
from darkroom_client.origin import Origin
from darkroom_client.requests import MAX_JSON, json_request
from darkroom_client.retries import Retries, repeated

MAX_PAGE: Final = 16_000_000  # bytes; a hundred images with the longest prompts take 2,000,000
M = TypeVar("M", bound=BaseModel)
HistoryStatus = Literal["completed", "failed", "cancelled", "queued", "running", "active", "all"]


class HistoryFilters(TypedDict, total=False):
    """What a history is limited to. A filter that an older server does not know is an `InvalidRequest`."""

    status: HistoryStatus  # `completed` unless it is named
    search: str  # words of the prompt
    model: str
    since: datetime
    until: datetime
    pinned: bool
    batch: str  # the id of the first image of a batch
    sort: str


_QUERY: Final = {"search": "q"}  # where the name on the wire is another one


@dataclass(frozen=True, slots=True)
class ImageOperations:
    origin: Origin
    retries: Retries

    def get(self, image_id: str) -> Operation[Image]:
        answer = yield from self._ask("GET", self.origin.image(image_id))
        return read_images(answer)[0]

    def pin(self, image_id: str, *, pinned: bool) -> Operation[Image]:
        answer = yield from self._ask("PATCH", self.origin.image(image_id), {"pinned": pinned})
        return read_images(answer)[0]

    def cancel(self, image_id: str, *, batch: bool) -> Operation[bool]:
        """Whether it is cancelled now; false if it had ended before."""
        try:
            yield from self._ask("POST", self.origin.image(image_id, f"cancel/{_batch(batch)}"))
        except Conflict as error:
            if error.image_status is None:
                raise
            return error.image_status == "cancelled"
        return True

    def delete(self, image_id: str, *, batch: bool) -> Operation[None]:
        url = self.origin.image(image_id, _batch(batch))
        tries: list[DarkroomError] = []

        def attempt() -> Operation[None]:
            try:
                answer = yield from send(json_request(self.origin, "DELETE", url))
                check(answer)
            except NotFound:
                if not tries:
                    raise  # else an earlier try has deleted it, and its answer was lost
            except DarkroomError as error:
                tries.append(error)
                raise

        yield from repeated(self.retries, attempt)

    def page(self, filters: Mapping[str, Any], per_page: int, cursor: str | None) -> Operation[HistoryPage]:
        """One page of the history, newest first."""
        query = {_QUERY.get(name, name): _text(value) for name, value in filters.items() if value is not None}
        query["per_page"] = str(per_page)
        if cursor:
            query["cursor"] = cursor
        url = self.origin.path(f"/api/images/history/?{urlencode(query)}")
        return self._read(url, HistoryPage, "a page of the history")

    def models(self) -> Operation[Offers]:
        return self._read(self.origin.path("/api/models/"), Offers, "the models")

    def limits(self) -> Operation[Limits]:
        return self._read(self.origin.path("/api/limits/"), Limits, "the limits")

    def _read(self, url: str, model: type[M], what: str) -> Operation[M]:
        answer = yield from self._ask("GET", url, max_bytes=MAX_PAGE)
        return read_model(answer, model, what)

    def _ask(
        self, method: str, url: str, body: Mapping[str, Any] | None = None, *, max_bytes: int = MAX_JSON
    ) -> Operation[Answer]:
        """The answer of the server, asked again while its error may pass."""

        content = json.dumps(body).encode() if body is not None else None

        def attempt() -> Operation[Answer]:
            answer = yield from send(json_request(self.origin, method, url, content, max_bytes=max_bytes))
            check(answer)
            return answer

        return repeated(self.retries, attempt)


def _batch(batch: bool) -> str:
    return "?batch=true" if batch else ""


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)
