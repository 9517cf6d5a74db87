"""The search in the MongoDB store: a multikey index of the words of each prompt.

A document holds its words folded (`words_of`), so a word is one range of the index, and so is the beginning of a word.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from pymongo import UpdateOne

from common.domain.images import Status
from common.domain.search import HistoryFilter, HistoryPosition, Term, words_of
from common.store.documents import Document

NOT_INDEXED: Final[Document] = {"shown": True, "words": None}
_LAST: Final = "\U0010ffff"  # no word holds it: it is no character


def condition(owner: str, statuses: Collection[Status], where: HistoryFilter) -> Document:
    """The query for the visible images of the owner that the filter matches."""
    query: Document = {"owner": owner, "status": {"$in": sorted(status.value for status in statuses)}, "shown": True}
    if where.terms:
        query["$and"] = [{"words": _occurrence(term)} for term in where.terms]
    if where.since is not None or where.until is not None:
        bounds = {"$gte": where.since, "$lt": where.until}
        query["created_at"] = {name: bound for name, bound in bounds.items() if bound is not None}
    for name, wanted in (("model", where.model), ("pinned", where.pinned), ("batch.id", where.batch_id)):
        if wanted is not None:
            query[name] = wanted
    return query


def add_position(query: Document, after: HistoryPosition, *, oldest_first: bool) -> None:
    """Limit the query to what comes after a position in the history."""
    nearer, up_to = ("$gt", "$gte") if oldest_first else ("$lt", "$lte")
    # the first condition bounds the index scan, the second skips images of the same moment
    query["created_at"] = {**query.get("created_at", {}), up_to: after.created_at}
    in_moment = _after_in_moment(after, nearer)
    query["$or"] = [{"created_at": {nearer: after.created_at}}, *in_moment]


def index_update(document: Document) -> UpdateOne:
    """The write that indexes a stored image, unless it has changed since: then the other writer has done it."""
    words = words_of(str(document.get("prompt", "")))
    unchanged: dict[str, Any] = {"_id": document["_id"], "revision": document.get("revision"), "words": None}
    return UpdateOne(unchanged, {"$set": {"words": words}})


def _after_in_moment(after: HistoryPosition, nearer: str) -> list[Document]:
    """Which images of the moment of this position come after it."""
    same_index = {"batch.index": after.index, "id": {nearer: after.id}}  # None: the field is absent
    if after.index is None:
        return [same_index, {"batch.index": {"$gte": 0}}] if nearer == "$gt" else [same_index]
    others = {"batch.index": {nearer: after.index}}
    return [same_index, others] if nearer == "$gt" else [same_index, others, {"batch.index": None}]


def _occurrence(term: Term) -> Any:
    """One word in the range: two conditions on an array may be met by two of its elements."""
    return {"$elemMatch": {"$gte": term.text, "$lt": term.text + _LAST}} if term.is_prefix else term.text
