"""The query and the answer of the history."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from common.domain.images import Status
from common.domain.requests import PlainName
from common.domain.search import MAX_QUERY, HistoryFilter, terms_of
from common.domain.views import Outgoing, clamped
from services.api.presenter import HistoryItem
from services.api.routes.schema import ANY_CASE_UUID, UUID_PATTERN, Query

MAX_TOTAL: Final = 1000  # counted in a search; a frequent word may have a million
# milliseconds, the index in a batch, an image's id, and since there are filters their hash; clients do not interpret it
_CURSOR: Final = f"^[0-9]{{13}}[.]([0-9][.])?{UUID_PATTERN}([.][0-9a-f]{{8}})?$"
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)
_MS: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

STATUSES: Final = {
    "active": frozenset({Status.QUEUED, Status.RUNNING}),
    "all": frozenset(Status),
    **{status.value: frozenset({status}) for status in Status},
}


def _rfc_3339(value: Any) -> Any:
    if isinstance(value, str) and _RFC_3339.fullmatch(value) is None:
        raise ValueError("must be a time with its zone, as 2025-01-15T12:00:00Z")
    return value


def _next_ms(moment: datetime) -> datetime:
    """Records have whole milliseconds: one at or after the moment is at or after the next whole one."""
    moment = clamped(moment)
    return _EPOCH - (_EPOCH - moment) // _MS * _MS


Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), AfterValidator(_next_ms)]


class HistoryQuery(Query):
    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    per_page: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: (
        Annotated[str, Field(pattern=_CURSOR, description="`nextCursor` of the previous page, with the same filters")]
        | None
    ) = None
    status: Literal["completed", "failed", "cancelled", "queued", "running", "active", "all"] = "completed"
    q: Annotated[
        str,
        Field(
            max_length=MAX_QUERY,
            description="words of the prompt, all of which must occur; two letters or more are the beginning of a "
            "word. Case and accents do not count, and there are no operators",
            examples=["lighthouse dusk", "caf"],
        ),
    ] = ""
    model: Annotated[PlainName, Field(description="images of this model", examples=["sdxl"])] | None = None
    since: Annotated[Moment, Field(description="created then or later", examples=["2025-01-15T00:00:00Z"])] | None = (
        None
    )
    until: Annotated[Moment, Field(description="created before then", examples=["2025-01-16T00:00:00Z"])] | None = None
    pinned: Annotated[bool, Field(description="pinned images only, or only others")] | None = None
    batch: (
        Annotated[
            str,
            Field(pattern=ANY_CASE_UUID, description="the images of this batch only"),
            AfterValidator(str.lower),
        ]
        | None
    ) = None
    sort: Annotated[Literal["newest", "oldest"], Field(description="which comes first")] = "newest"

    @property
    def statuses(self) -> frozenset[Status]:
        return STATUSES[self.status]

    @property
    def oldest_first(self) -> bool:
        return self.sort == "oldest"

    def filter(self) -> HistoryFilter:
        return HistoryFilter(
            terms=terms_of(self.q),
            model=self.model,
            since=self.since,
            until=self.until,
            pinned=self.pinned,
            batch_id=self.batch,
        )


class HistoryPage(Outgoing):
    images: list[HistoryItem]
    total: Annotated[int, Field(ge=0, description=f"of all pages; with `q` at most {MAX_TOTAL}")]
    total_is_capped: Annotated[bool, Field(description="there are more than `total`")] = False
    page: int
    per_page: int
    next_cursor: str | None
