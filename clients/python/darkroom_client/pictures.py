"""The operation that downloads a picture. Its URL may lead to another host, which gets no credential."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urljoin, urlsplit

from darkroom_client.answers import problem, shown, unexpected
from darkroom_client.effects import Answer, Operation, Send, send
from darkroom_client.errors import (
    ApiError,
    DarkroomError,
    Misconfigured,
    NotFound,
    Redirected,
    Unauthorized,
    UnexpectedAnswer,
)
from darkroom_client.models import HistoryItem, Image
from darkroom_client.operations import ImageOperations
from darkroom_client.orders import failure
from darkroom_client.origin import Origin, is_web_address
from darkroom_client.requests import TIMEOUT_S
from darkroom_client.retries import Retries, repeated

MAX_PICTURE: Final = 1_000_000_000  # bytes; the server has a smaller limit of its own
MAX_REDIRECTS: Final = 5
PictureFormat = Literal["png", "jpeg", "webp"]
FORMATS: Final[dict[str, PictureFormat]] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
Wanted = Image | HistoryItem | str  # an image, an entry of the history, an id


@dataclass(frozen=True, slots=True)
class PictureOperations:
    origin: Origin
    retries: Retries
    images: ImageOperations

    def download(self, wanted: Wanted, picture_format: PictureFormat | None, quality: int | None) -> Operation[bytes]:
        """The bytes of the picture, converted by the server if a format is named.

        Raises:
            Misconfigured: a quality without a format; the file that is stored has the quality that it has.
        """
        if quality is not None and picture_format is None:
            raise Misconfigured("quality needs a format: jpeg or webp")
        image: Image | HistoryItem
        image = (yield from self.images.get(wanted)) if isinstance(wanted, str) else wanted
        if image.image_url is None:
            # the record of an image that is still painted is older than the picture
            image = yield from self.images.get(image.id)
        try:
            return (yield from self._file(_named(image), picture_format, quality))
        except Unauthorized:
            # the signature in its URL has expired: the record has a new one
            image = yield from self.images.get(image.id)
            return (yield from self._file(_named(image), picture_format, quality))

    def _file(self, image_url: str, wanted: PictureFormat | None, quality: int | None) -> Operation[bytes]:
        if wanted is not None:
            more = f"format={wanted}" + (f"&quality={quality}" if quality is not None else "")
            image_url += f"{'&' if '?' in image_url else '?'}{more}"
        try:
            return (yield from repeated(self.retries, lambda: self._picture(self.origin.picture(image_url), wanted)))
        except (UnexpectedAnswer, NotFound):
            if (below := self.origin.picture_below(image_url)) is None:
                raise
            return (yield from self._picture(below, wanted))

    def _picture(self, url: str, wanted: PictureFormat | None) -> Operation[bytes]:
        answer = yield from self._followed(url)
        kind = answer.content_type
        if answer.status != 200 or not kind.startswith("image/"):
            found = problem(answer) if answer.status >= 400 else None
            raise found if isinstance(found, ApiError) else unexpected(answer, "the picture")
        if wanted is not None and kind != f"image/{wanted}":
            text = f"the server sent {kind}, not {wanted}; the image is at {shown(url)}"
            raise UnexpectedAnswer(text, url=url, status=answer.status, content_type=kind)
        return answer.body

    def _followed(self, url: str) -> Operation[Answer]:
        """The answer after redirects. Once they have left our server, no address gets a credential any more."""
        is_trusted = True
        for _ in range(MAX_REDIRECTS + 1):
            if not is_web_address(url):
                raise UnexpectedAnswer(f"the server names no web address of the picture: {shown(url)}", url=url)
            is_trusted = is_trusted and self.origin.is_own(url)
            headers = {"Accept": "image/*", **(self.origin.headers_for(url) if is_trusted else {})}
            answer = yield from send(Send("GET", url, headers, MAX_PICTURE, TIMEOUT_S))
            location = answer.headers.get("location")
            if not (300 <= answer.status < 400) or location is None:
                return answer
            target = urljoin(url, location)
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
                text = f"{shown(url)} leads from https to {shown(target)}"
                raise Redirected(text, url=url, status=answer.status)
            url = target
        raise Redirected(f"{shown(url)}: more than {MAX_REDIRECTS} redirects", url=url)


def _named(image: Image | HistoryItem) -> str:
    if image.image_url is not None:
        return image.image_url
    if isinstance(image, Image) and image.is_final and not image.is_completed:
        raise failure(image)
    raise DarkroomError(f"image {image.id} is {image.status} and has no picture", code="no_picture")
