"""What both clients are made of: the operations with their configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from darkroom_client.listening import Following, Listening
from darkroom_client.models import Image
from darkroom_client.operations import ImageOperations
from darkroom_client.orders import OrderOperations
from darkroom_client.origin import Origin
from darkroom_client.pictures import PictureOperations
from darkroom_client.retries import Retries


@dataclass(frozen=True, slots=True)
class Core:
    origin: Origin
    retries: Retries
    orders: OrderOperations
    images: ImageOperations
    pictures: PictureOperations
    handshake_s: float
    poll_s: float

    @classmethod
    def of(
        cls,
        url: str | None,
        *,
        token: str | None,
        headers: Mapping[str, str] | None,
        retries: Retries | None,
        handshake_s: float,
        poll_s: float,
    ) -> Core:
        origin, patience = Origin.of(url, token, headers), retries or Retries()
        images = ImageOperations(origin, patience)
        return cls(
            origin=origin,
            retries=patience,
            orders=OrderOperations(origin, patience),
            images=images,
            pictures=PictureOperations(origin, patience, images),
            handshake_s=handshake_s,
            poll_s=poll_s,
        )

    def listening(self, after: str | None, *, hints: bool) -> Listening:
        return Listening(self.origin, self.retries, after=after, hints=hints, handshake_s=self.handshake_s)

    def following(self, images: Sequence[Image]) -> Following:
        return Following(self.orders, images, handshake_s=self.handshake_s, poll_s=self.poll_s)
