"""The points of an image's life at which a process can be killed, by the call of the service.

    api         record ─▶ queued ─▶ send ─▶ sent
    generator   claim ─▶ started ∥ answer ─▶ file ∥ thumbnail ─▶ complete ─▶ event ─▶ ack, and noted
                └──────────────── requeue, give up: `again`, `failed` ────────────────┘
    janitor     mark ─▶ unlink ─▶ event ─▶ tombstone ─▶ drop     (a delete by the api has the first four as well)

Pure: it maps a call with its arguments to the name of a point. The services do not know about it.
"""

from collections.abc import Sequence
from typing import Any

from common.domain.images import Image, Status

POINTS = (
    "record",
    "queued",
    "send",
    "sent",
    "claim",
    "renew",
    "started",
    "answer",
    "file",
    "thumbnail",
    "complete",
    "again",
    "failed",
    "event",
    "noted",
    "ack",
    "mark",
    "unlink",
    "tombstone",
    "drop",
    "arm",
)
_EVENTS = {"image.queued": "queued", "image.started": "started"}
_FINAL = {Status.COMPLETED: "complete", Status.FAILED: "failed", Status.CANCELLED: "cancel"}


class Points:
    """Distinguishes a claim from a renewal by the attempts it has seen; one for each process."""

    def __init__(self) -> None:
        self._attempts: dict[str, int] = {}

    def of(self, port: str, method: str, arguments: Sequence[Any]) -> str | None:
        """The name of the point, or None for a call that is not a point."""
        match port, method, arguments:
            case "store", "insert", _:
                return "record"
            case "store", "replace", (image,):
                return self._of_record(image)
            case "store", "replace_several", ([image, *_],):
                return self._of_record(image)
            case "store", "remove" | "remove_several", _:
                return "drop"
            case "bus", "publish", (event,) if event.type.startswith("image.") and event.type != "image.progress":
                return _EVENTS.get(event.type, "event")
            case "bus", "publish_several", ([_, *_],):
                return "event"
            case "bus", "send", _:
                return "send"
            case "bus", "arm", _:
                return "arm"
            case "media", "put", (key, _):
                return "file" if key.startswith("generated_images/") else "thumbnail"
            case "media", "remove", _:
                return "unlink"
            case "inference", "generate", _:
                return "answer"
        return None

    def _of_record(self, image: Image) -> str:
        if image.tombstoned_at is not None:
            return "tombstone"
        if image.deleted_at is not None:
            return "mark" if image.pending_event is not None else "noted"
        if image.status.is_final:
            return _FINAL[image.status] if image.pending_event is not None else "noted"
        if image.status is Status.QUEUED:
            return "sent" if image.sent_at is not None else "again"
        if self._attempts.get(image.id) != image.attempts:
            self._attempts[image.id] = image.attempts
            return "claim"
        return "renew"
