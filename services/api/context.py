"""What every route needs, and the shape of a route: one table entry each, from which app and contract are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiohttp import web
from pydantic import BaseModel

from common.application.capabilities import CapabilitiesOf
from common.application.outbox import Outbox
from common.bus.port import Bus
from common.domain.images import Image
from common.domain.views import ImageView
from common.media.port import Media
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store
from services.api.auth.identity import Caller, Identity
from services.api.auth.signing import Signing
from services.api.events.live import LiveEvents
from services.api.events.queue_positions import QueuePositions
from services.api.limits.admission import Admission
from services.api.routes.schema import ImageAnswer


@dataclass(frozen=True, slots=True)
class Context:
    """The parts that the routes work with; one for each process."""

    settings: Settings
    bus: Bus
    store: Store
    media: Media
    outbox: Outbox
    live: LiveEvents
    queue_positions: QueuePositions
    capabilities: CapabilitiesOf | None
    clock: Clock
    identity: Identity
    signing: Signing
    admission: Admission

    def view(self, image: Image) -> ImageView:
        """The image as its owner sees it, with URLs that its owner's browser can load."""
        return self.signing.view(self.outbox.events.presenter.view(image))

    async def whole(self, image: Image) -> ImageAnswer:
        """The image as REST answers with it."""
        return ImageAnswer(**dict(self.view(image)), queue_place=await self.queue_positions.place(image))


@dataclass(frozen=True, slots=True)
class Call:
    """One request, with what was read of it: who calls, and the parsed query and body.

    `caller` is nobody where the route asks for none, or where a signed URL stood in for one.
    """

    request: web.Request
    context: Context
    caller: Caller
    query: Any = None
    body: Any = None
    is_signed: bool = False

    @property
    def owner(self) -> str:
        return self.caller.owner

    @property
    def image_id(self) -> str:
        """As it stands in the path, not yet checked."""
        return self.request.match_info["id"]


@dataclass(frozen=True, slots=True)
class Operation:
    """A route: what it takes, what it gives by status, and which problems it knows of its own."""

    method: str
    path: str
    handle: Callable[[Call], Awaitable[web.StreamResponse]]
    summary: str
    answers: dict[int, type[BaseModel] | None]
    problems: tuple[int, ...] = ()
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    is_public: bool = False  # served without identity
    instead_of_header: Literal["signature", "ticket"] | None = None  # another way in, where a header cannot be sent
    media_types: tuple[str, ...] = ("application/json",)
    headers: dict[str, str] = field(default_factory=dict)  # request headers it reads: name to meaning
    gives_headers: tuple[str, ...] = ()  # of its own, beside what every answer has

    @property
    def gives_json(self) -> bool:
        return self.media_types == ("application/json",) and any(self.answers.values())


CONTEXT: Final = web.AppKey("context", Context)


def answer(model: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A model as JSON."""
    return web.Response(
        status=status, text=model.model_dump_json(by_alias=True), content_type="application/json", headers=headers
    )
