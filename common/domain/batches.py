"""The images of one request for several, made from the record of the first.

    first ──member(first, 1)──▶ second ──▶ ...        each with the seed of the first plus its index

The first record is the commit of the whole batch (docs/decisions/0014-batches.md): the others are derived from it, and
from nothing else, so each process that completes a batch inserts the same records. Pure functions.
"""

from __future__ import annotations

import hashlib
from typing import Final
from uuid import UUID

from common.domain.images import Batch, Image, Status
from common.domain.requests import MAX_SEED

MAX_BATCH: Final = 10  # images of one request
# What all images of a batch have in common. A field that comes from the request belongs here, a test asks for it.
SHARED: Final = (
    "owner",
    "prompt",
    "negative_prompt",
    "model",
    "width",
    "height",
    "parameters",
    "created_at",
    "source",
    "traceparent",
    "wanted_format",
    "webhook",
)
_RANDOM_BITS: Final = 80  # of a UUIDv7; the bits before them are its time


def batch_ids(first: Image) -> list[str]:
    """The ids of all images of the batch, in their order; the only id of an image without a batch."""
    count = first.batch.count if first.batch is not None else 1
    return [member_id(first.id, index) for index in range(count)]


def member_id(first_id: str, index: int) -> str:
    """The id of a member: for the first that of the batch, for another a UUIDv7 of the same time with a hash."""
    if index == 0:
        return first_id
    digest = int.from_bytes(hashlib.sha256(f"{first_id}.{index}".encode()).digest()[: _RANDOM_BITS // 8])
    value = UUID(first_id).int >> _RANDOM_BITS << _RANDOM_BITS | digest
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))


def missing_members(first: Image) -> list[Image]:
    """The images of the batch besides the first, as they are when nothing has happened to them yet.

    Empty if they have been recorded before: a member may have been purged since, and must not come back.
    """
    if first.batch is None or first.batch_due is None:
        return []
    return [_member(first, first.batch, index) for index in range(1, first.batch.count)]


def mark_complete(first: Image) -> Image:
    """The transition of the first image when the others are on record; unchanged if they were before."""
    if first.batch_due is None:
        return first
    return first.model_copy(update={"batch_due": None, "revision": first.revision + 1})


def _member(first: Image, batch: Batch, index: int) -> Image:
    shared = {name: getattr(first, name) for name in SHARED}
    seed = (first.parameters.seed + index) % (MAX_SEED + 1)
    return Image(
        **shared
        | {
            "id": member_id(first.id, index),
            "parameters": first.parameters.model_copy(update={"seed": seed}),
            "status": Status.QUEUED,
            "batch": batch.model_copy(update={"index": index}),
        }
    )
