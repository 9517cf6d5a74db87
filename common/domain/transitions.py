"""The transitions of an image's record.

    waiting ──dispatch──▶ queued ──claim──▶ running ──complete──▶ completed
       ▲                   │ ▲                │ │
       └────set_waiting────┘ │                │ ├──fail────────▶ failed        (from queued too)
                             │                │ └──cancel──────▶ cancelled     (from queued too)
                             └────────────────┘ retry, give_back, expire_lease

A waiting image is queued too, with `waiting_since`.

A transition takes the current record and returns the changed record, one revision later, with the event that has to be
published. It raises `InvalidTransition` when the state does not allow it, and returns the same object when nothing has
to change, so it may be applied twice. The lease (token and attempt) is the fencing token: a worker whose lease is no
longer on the record is refused. Pure functions: no clock, no store, no bus.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from common.domain.errors import InvalidTransition
from common.domain.images import Failure, Image, Lease, PendingEvent, Picture, Status
from common.domain.pools import DEFAULT_POOL, stored_pool

MAX_FAILURES: Final = 3  # the third transient error of the inference service fails the image
MAX_LOST: Final = 6  # an image whose lease expired under six workers is probably what kills them
WORKER_LOST: Final = "worker_lost"


def dispatch(image: Image, *, slot: str | None, now: datetime, pool: str = DEFAULT_POOL) -> Image:
    """Give a waiting image its turn: it holds the slot from now on, and its command has to be sent to the pool.

    Raises:
        InvalidTransition: it is final (`wrong_state`), or does not wait (`dispatched`).
    """
    _require_open(image)
    if not image.is_waiting:
        raise InvalidTransition(f"image {image.id} does not wait", status=image.status, code="dispatched")
    dispatched_at = max(now, image.created_at)  # a clock that is behind must not make it overdue at once
    # the pending event is that it waits; its command follows another `image.queued`
    nothing_left = dict.fromkeys(("waiting_since", "not_before", "sent_at", "pending_event"))
    return _next(image, slot=slot, pool=stored_pool(pool), dispatched_at=dispatched_at, **nothing_left)


def set_waiting(image: Image, *, now: datetime, not_before: datetime | None = None) -> Image:
    """Let a queued image wait for another turn, not before this time; its slot is free, its attempts stay.

    Raises:
        InvalidTransition: it is running or final.
    """
    if image.status is not Status.QUEUED:
        raise _refused(image)
    if image.is_waiting and image.not_before == not_before:
        return image
    pending = PendingEvent(type="image.queued", revision=image.revision + 1, since=now)
    return _next(
        image,
        slot=image.slot if image.is_waiting else None,  # of a waiting image it is the place in the line
        waiting_since=image.waiting_since or now,
        not_before=not_before,
        dispatched_at=None,
        sent_at=None,
        pool=None,
        pending_event=pending,  # that it waits: no command follows at once
    )


def mark_sent(
    image: Image, *, attempts: int, now: datetime, dispatched_at: datetime | None = None, pool: str = DEFAULT_POOL
) -> Image:
    """Record that the broker has the command for this pool. Unchanged if the image was claimed or dispatched since."""
    if image.status.is_final or image.attempts != attempts:
        return image
    if image.is_waiting or image.dispatched_at != dispatched_at:
        return image
    return _next(image, sent_at=now, pool=stored_pool(pool))


def claim(image: Image, *, lease: Lease, now: datetime, deadline: timedelta) -> Image:
    """Take the image from the queue, or from a worker whose lease has expired.

    Returns a failed image if too many workers were lost with it. The deadline is not checked here, but by the janitor,
    which has two clocks to compare. A `not_before` later than `deadline` from now comes from a wrong clock, and is
    ignored.

    Raises:
        InvalidTransition: it is final (`wrong_state`), waits for its turn (`waiting`), is held by another worker
            (`leased`), or its retry is not due yet (`too_early`).
    """
    _require_open(image)
    if image.is_waiting:
        raise InvalidTransition(f"image {image.id} waits for its turn", status=image.status, code="waiting")
    if image.status is Status.RUNNING:
        if image.lease is not None and image.lease.token == lease.token:
            return image
        image = _with_expired_lease(image, now)
    elif image.not_before is not None and now < image.not_before <= now + deadline:
        raise InvalidTransition(
            f"the retry of image {image.id} is not due before {image.not_before}",
            status=image.status,
            code="too_early",
        )
    if image.lost >= MAX_LOST:
        return _worker_lost(image, now)
    return _next(
        image,
        status=Status.RUNNING,
        lease=lease,
        attempts=image.attempts + 1,
        started_at=now,
        not_before=None,
    )


def renew(image: Image, *, lease: Lease, attempt: int) -> Image:
    """Extend the lease: `lease` replaces the old one."""
    _require_lease(image, lease, attempt)
    return _next(image, lease=lease)


def complete(image: Image, *, lease: Lease, attempt: int, picture: Picture, now: datetime) -> Image:
    """Complete the image; its files are already stored."""
    if image.status is Status.COMPLETED and image.image_file == picture.image_file:
        return image
    _require_lease(image, lease, attempt)
    return _final(image, Status.COMPLETED, now, error=None, **dict(picture))


def retry(
    image: Image,
    *,
    lease: Lease,
    attempt: int,
    error: Failure,
    not_before: datetime,
    counts: bool,
    now: datetime,
    refused: bool = False,
) -> Image:
    """Return the image to the queue after a transient error; the third counted error fails it.

    `refused`: the inference service has no usable picture under the id of this run, so the next run gets another id.
    """
    _require_lease(image, lease, attempt)
    counted = {"failures": image.failures + counts, "refused": image.refused + refused}
    if counted["failures"] >= MAX_FAILURES:
        return _final(image, Status.FAILED, now, error=error, **counted)
    # one that fails an image twice must not get its last attempt as well
    backend = None if refused or image.failures else image.last_backend
    return _queued_again(image, not_before, error=error, backend=backend, **counted)


def give_back(image: Image, *, lease: Lease, attempt: int, now: datetime) -> Image:
    """Return the image to the queue because its worker stops; no failure is counted."""
    _require_lease(image, lease, attempt)
    return _queued_again(image, now)


def expire_lease(image: Image, *, lease: Lease | None, now: datetime) -> Image:
    """Return the image of a dead worker to the queue; `lease` is the expired one, and its `until` is not checked.

    The next claim decides whether too many workers were lost.

    Raises:
        InvalidTransition: it is not running, or its lease has changed since (`leased`).
    """
    if image.status is not Status.RUNNING:
        raise _refused(image)
    if image.lease != lease:
        raise InvalidTransition(f"image {image.id} has a new lease", status=image.status, code="leased")
    return _queued_again(image, now, lost=image.lost + 1)


def fail(image: Image, *, error: Failure, now: datetime, lease: Lease | None = None, attempt: int = 0) -> Image:
    """Fail the image: by its worker with the lease, or by others only while no live lease holds it."""
    _require_open(image)
    if lease is not None:
        _require_lease(image, lease, attempt)
    elif image.lease is not None and image.lease.until > now:
        raise InvalidTransition(f"image {image.id} has a live lease", status=image.status, code="leased")
    return _final(image, Status.FAILED, now, error=error)


def fail_past_deadline(image: Image, *, now: datetime) -> Image:
    """Fail an image that was not completed in time, even if a worker holds it."""
    _require_open(image)
    error = Failure(code="deadline", detail="the image was not painted in time; request it again")
    return _final(image, Status.FAILED, now, error=error)


def cancel(image: Image, *, now: datetime) -> Image:
    """Cancel the image at once; its worker learns it from the event or when it renews the lease.

    Raises InvalidTransition if it is final already.
    """
    _require_open(image)
    return _final(image, Status.CANCELLED, now)


def delete(image: Image, *, now: datetime) -> Image:
    """Hide the image from all readers, after cancelling it if it is not final.

    `image.deleted` replaces a pending final event.
    """
    if image.deleted_at is not None:
        return image
    if not image.status.is_final:
        image = _final(image, Status.CANCELLED, now)
        image = image.model_copy(update={"revision": image.revision - 1})
    pending = PendingEvent(type="image.deleted", revision=image.revision + 1, since=now)
    return _next(image, deleted_at=now, pending_event=pending, slot=None)


def tombstone(image: Image, *, now: datetime, announced: bool = False) -> Image:
    """Reduce the record to a tombstone after its files are removed; a repeated request cannot create it again.

    `announced` means that the broker has confirmed the pending event.

    Raises:
        InvalidTransition: it is not deleted (`wrong_state`), or other images of its batch have to be made from it
            first (`batch_due`).
    """
    if image.deleted_at is None:
        raise _refused(image)
    if image.tombstoned_at is not None:
        return image
    if image.batch_due is not None:
        raise InvalidTransition(f"the batch of image {image.id} is incomplete", status=image.status, code="batch_due")
    nothing_left = {"prompt": "", "negative_prompt": "", "image_file": None, "thumbnail": None}
    pending = None if announced else image.pending_event
    return _next(image, tombstoned_at=now, pending_event=pending, **nothing_left)


def pin(image: Image, *, pinned: bool) -> Image:
    """Exclude the image from the purge, or include it again."""
    if image.pinned == pinned:
        return image
    return _next(image, pinned=pinned)


def forget_thumbnail(image: Image) -> Image:
    """Drop the key of a thumbnail whose file is lost; readers get the picture instead."""
    if image.thumbnail is None:
        return image
    return _next(image, thumbnail=None)


def mark_event_published(image: Image, *, pending: PendingEvent) -> Image:
    """Record that the broker has confirmed the pending event."""
    if image.pending_event is None or image.pending_event.revision != pending.revision:
        return image
    return _next(image, pending_event=None)


def _next(image: Image, **changes: Any) -> Image:
    return image.model_copy(update={**changes, "revision": image.revision + 1})


def _final(image: Image, status: Status, now: datetime, **changes: Any) -> Image:
    pending = PendingEvent(type=f"image.{status}", revision=image.revision + 1, since=now)
    nothing_held = dict.fromkeys(("lease", "backend", "slot", "not_before", "waiting_since"))
    final = {"status": status, "finished_at": now, "pending_event": pending}
    return _next(image, **nothing_held | final | changes)


def _queued_again(image: Image, not_before: datetime, **changes: Any) -> Image:
    kept = {"backend": image.last_backend}  # not sent_at: the command of the next attempt is not confirmed
    return _next(image, status=Status.QUEUED, lease=None, sent_at=None, not_before=not_before, **kept | changes)


def _with_expired_lease(image: Image, now: datetime) -> Image:
    if image.lease is not None and image.lease.until > now:
        raise InvalidTransition(f"image {image.id} is held by {image.lease.worker}", status=image.status, code="leased")
    return image.model_copy(update={"lost": image.lost + 1})


def _worker_lost(image: Image, now: datetime) -> Image:
    error = Failure(code=WORKER_LOST, detail=f"{image.lost} workers were lost while they painted the image")
    return _final(image, Status.FAILED, now, error=error, lost=image.lost)


def _require_open(image: Image) -> None:
    if image.status.is_final:
        raise _refused(image)


def _require_lease(image: Image, lease: Lease, attempt: int) -> None:
    held = image.lease is not None and image.lease.token == lease.token and image.attempts == attempt
    if image.status is not Status.RUNNING or not held:
        raise InvalidTransition(
            f"the lease of this worker on image {image.id} is lost", status=image.status, code="lease_lost"
        )


def _refused(image: Image) -> InvalidTransition:
    return InvalidTransition(f"image {image.id} is {image.status}", status=image.status)
