"""The route of the history."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from common.store.port import Store
from services.api.context import Context
from services.api.history.cursor import decode_cursor, encode_cursor
from services.api.history.query import MAX_TOTAL, HistoryPage, HistoryQuery
from services.api.presenter import Presenter
from services.api.routes.operation import Call, Operation, RouteGroup, answer, query_of


@dataclass(frozen=True, slots=True)
class HistoryRoutes:
    store: Store
    presenter: Presenter

    @classmethod
    def of(cls, context: Context) -> HistoryRoutes:
        return cls(context.store, context.presenter)

    async def history(self, call: Call[HistoryQuery, None]) -> web.Response:
        """Lists or searches the images of the owner, by page number or by cursor (409 with one of other filters)."""
        query, where = call.query, call.query.filter()
        after = decode_cursor(query.cursor, query) if query.cursor else None
        is_bounded = where.is_more_than_batch
        # at the same time: among a million images, each may take 10 ms; one more than the page holds shows whether
        # there is a next page
        found, total = await asyncio.gather(
            self.store.history(
                call.owner,
                query.statuses,
                limit=query.per_page + 1,
                offset=0 if after else (query.page - 1) * query.per_page,
                after=after,
                where=where,
                oldest_first=query.oldest_first,
            ),
            self.store.count_history(
                call.owner, query.statuses, where=where, limit=MAX_TOTAL + 1 if is_bounded else None
            ),
        )
        page = found[: query.per_page]
        if after is None and query.page == 1 and len(found) <= query.per_page:
            total = len(found)
        is_capped = is_bounded and total > MAX_TOTAL
        return answer(
            HistoryPage(
                images=[self.presenter.history_item(image) for image in page],
                total=MAX_TOTAL if is_capped else total,
                total_is_capped=is_capped,
                page=query.page,
                per_page=query.per_page,
                next_cursor=encode_cursor(page[-1], query) if len(found) > len(page) else None,
            )
        )


OPERATIONS: Final = (
    Operation(
        "images_history",
        "GET",
        "/api/images/history/",
        query_of(HistoryQuery),
        HistoryRoutes.history,
        "List or search images",
        answers={200: HistoryPage},
        problems=(400, 401, 406, 409, 413, 503),
    ),
)
GROUP: Final = RouteGroup(HistoryRoutes.of, OPERATIONS)
