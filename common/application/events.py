"""The events about an image, made from its record.

The id of an event is `<image id>.<revision>`, so that duplicates are recognised. A pending event keeps the revision and
the time that are stored with it on the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from common.domain.images import Image, PendingEvent
from common.domain.views import BatchView, ImagePresenter
from common.messages import AnyImageEvent, Deleted, ImageChange, ImageChanged, ImageDeleted, ImageProgressed, Progress
from common.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class EventFactory:
    """Makes the events of one service; `source` is its name."""

    source: str
    clock: Clock
    presenter: ImagePresenter

    def changed(self, image: Image, event_type: ImageChange, *, pending: PendingEvent | None = None) -> ImageChanged:
        """An event of this type, with the image as it is now."""
        revision = pending.revision if pending else image.revision
        return ImageChanged(
            id=f"{image.id}.{revision}",
            source=self.source,
            type=event_type,
            subject=image.id,
            time=pending.since if pending else self.clock.now(),
            owner=image.owner,
            revision=revision,
            attempt=image.attempts,
            traceparent=image.traceparent,
            data=self.presenter.view(image),
        )

    def progressed(
        self, image: Image, *, step: int, steps: int, seconds_left: float | None, preview: str | None = None
    ) -> ImageProgressed:
        """The progress of the current attempt; carries the revision of its claim."""
        return ImageProgressed(
            id=f"{image.id}.{image.revision}.{step}",
            source=self.source,
            subject=image.id,
            time=self.clock.now(),
            owner=image.owner,
            revision=image.revision,
            attempt=image.attempts,
            data=Progress(
                id=image.id,
                step=step,
                steps=steps,
                seconds_left=seconds_left,
                preview=preview,
                batch=BatchView.of(image),
            ),
        )

    def deleted(self, image: Image) -> ImageDeleted:
        """`image.deleted`, with nothing of the image but its id and its place in a batch."""
        pending = image.pending_event
        revision = pending.revision if pending else image.revision
        return ImageDeleted(
            id=f"{image.id}.{revision}",
            source=self.source,
            subject=image.id,
            time=pending.since if pending else self.clock.now(),
            owner=image.owner,
            revision=revision,
            attempt=image.attempts,
            traceparent=image.traceparent,
            data=Deleted(id=image.id, batch=BatchView.of(image)),
        )

    def pending(self, image: Image, pending: PendingEvent) -> AnyImageEvent:
        """The pending event of the record."""
        if pending.type == "image.deleted":
            return self.deleted(image)
        return self.changed(image, cast("ImageChange", pending.type), pending=pending)
