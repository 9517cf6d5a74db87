"""The client library of Darkroom: order pictures over HTTP, follow them, download them.

`darkroom_client.bus` does the same over RabbitMQ (the extra `bus`).
"""

from darkroom_client.async_client import AsyncDarkroom, AsyncHandle
from darkroom_client.client import Darkroom, Handle
from darkroom_client.errors import (
    ApiError,
    BusError,
    Conflict,
    ConnectionBroken,
    DarkroomError,
    Forbidden,
    Gone,
    ImageCancelled,
    ImageFailed,
    InvalidRequest,
    LimitReached,
    Misconfigured,
    NoAnswer,
    NotConfirmed,
    NotFound,
    Redirected,
    ServerError,
    StillWaiting,
    TlsFailed,
    Unauthorized,
    UnexpectedAnswer,
    Unreachable,
)
from darkroom_client.events import (
    Cancelled,
    Completed,
    Connected,
    Deleted,
    Event,
    Failed,
    Gap,
    ModelsChanged,
    NoGenerator,
    OneImageEvent,
    Progress,
    Queued,
    QueuePositions,
    Started,
)
from darkroom_client.models import Batch, Failure, HistoryItem, HistoryPage, Image, Limits, Offers, Parameters, Status
from darkroom_client.orders import OrderOptions
from darkroom_client.retries import Retries

__all__ = [
    "ApiError", "AsyncDarkroom", "AsyncHandle", "Batch", "BusError", "Cancelled", "Completed", "Conflict",
    "Connected", "ConnectionBroken", "Darkroom", "DarkroomError", "Deleted", "Event", "Failed", "Failure",
    "Forbidden", "Gap", "Gone", "Handle", "HistoryItem", "HistoryPage", "Image", "ImageCancelled", "ImageFailed",
    "InvalidRequest", "LimitReached", "Limits", "Misconfigured", "ModelsChanged", "NoAnswer", "NoGenerator",
    "NotConfirmed", "NotFound", "Offers", "OneImageEvent", "OrderOptions", "Parameters", "Progress", "QueuePositions",
    "Queued", "Redirected", "Retries", "ServerError", "Started", "Status", "StillWaiting", "TlsFailed",
    "Unauthorized", "UnexpectedAnswer", "Unreachable",
]  # fmt: skip
