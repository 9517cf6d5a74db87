"""Operations of orders: request images, and wait for them."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from darkroom_client.answers import read_images
from darkroom_client.effects import Operation, send, sleep
from darkroom_client.errors import (
    DarkroomError,
    ImageCancelled,
    ImageFailed,
    LimitReached,
    NoAnswer,
    ServerError,
    StillWaiting,
)
from darkroom_client.models import Image, Status
from darkroom_client.origin import Origin
from darkroom_client.requests import TIMEOUT_S, json_request
from darkroom_client.retries import Retries, repeated

WAIT_S: Final = 20.0  # of one request: proxies end idle ones after 30 s and more
SPARE_S: Final = 2.0  # beyond the caller's time: a server that waits until its end answers soon after it
POLL_S: Final = (0.2, 0.3, 0.5, 0.8, 1.2, 2.0)  # between two reads of a record; the last again and again
ReadImages = Callable[[float], Operation[list[Image]]]  # of the seconds that are left


class OrderOptions(TypedDict, total=False):
    """What an order may say besides its prompt; what it leaves out is chosen by the server."""

    negative_prompt: str
    model: str
    sampler: str
    width: int
    height: int
    steps: int
    cfg_scale: float
    seed: int
    hires_fix: bool
    webhook: str  # https URL that gets the events of the images


@dataclass(frozen=True, slots=True)
class Order:
    """A request with its key: it can be sent any number of times, and is one request."""

    body: bytes
    key: str

    @classmethod
    def of(cls, prompt: str, options: Mapping[str, Any], *, num_images: int, key: str | None) -> Order:
        fields = {"prompt": prompt, **{name: value for name, value in options.items() if value is not None}}
        if num_images != 1:
            fields["num_images"] = num_images
        return cls(json.dumps(fields).encode(), key or secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class OrderOperations:
    origin: Origin
    retries: Retries
    now: Callable[[], float] = time.monotonic

    def submit(self, order: Order) -> Operation[list[Image]]:
        """The accepted images."""
        return repeated(self.retries, lambda: self._post(order, wait_s=0))

    def complete(self, order: Order, timeout_s: float | None) -> Operation[list[Image]]:
        """The images when all have ended: the order is sent again and again, and each time waits for them."""
        ends_at = self._end(timeout_s)

        def left_s() -> float:
            return ends_at - self.now()

        try:
            images = yield from repeated(self.retries, lambda: self._post(order, left_s()), left_s=left_s)
        except NoAnswer as error:
            if left_s() > 0 or not error.is_passing:
                raise
            raise StillWaiting(f"no answer to the order within {timeout_s:g} s") from error
        return (yield from self._until_final(images, lambda left_s: self._post(order, left_s), ends_at))

    def wait(self, images: Sequence[Image], order: Order | None, timeout_s: float | None) -> Operation[list[Image]]:
        """The images when all have ended; without their order, their records are read."""
        read = self._polled(images) if order is None else (lambda left_s: self._post(order, left_s))
        return (yield from self._until_final(list(images), read, self._end(timeout_s)))

    def read(self, image_id: str, left_s: float = math.inf) -> Operation[Image]:
        """The record of an image."""
        timeout_s = min(TIMEOUT_S, left_s + SPARE_S)
        answer = yield from send(json_request(self.origin, "GET", self.origin.image(image_id), timeout_s=timeout_s))
        return read_images(answer)[0]

    def _end(self, timeout_s: float | None) -> float:
        return math.inf if timeout_s is None else self.now() + timeout_s

    def _post(self, order: Order, left_s: float = math.inf, *, wait_s: float = WAIT_S) -> Operation[list[Image]]:
        wait_s = max(0.0, min(wait_s, left_s))
        prefer = f"wait={int(wait_s)}, respond-async" if wait_s >= 1 else "respond-async"
        url = self.origin.path("/v1/images/generations")
        headers = {"Prefer": prefer, "Idempotency-Key": order.key}
        timeout_s = min(TIMEOUT_S + wait_s, max(0.0, left_s) + SPARE_S)
        request = json_request(self.origin, "POST", url, order.body, headers=headers, timeout_s=timeout_s)
        answer = yield from send(request)
        return read_images(answer)

    def _until_final(self, images: list[Image], read: ReadImages, ends_at: float) -> Operation[list[Image]]:
        heard_at, failures, quick = self.now(), 0, 0
        while not all(image.is_final for image in images):
            left_s = ends_at - self.now()
            if left_s <= 0:
                raise StillWaiting(f"image {images[0].id} is {images[0].status}", image=images[0])
            asked_at = self.now()
            try:
                images = yield from read(left_s)
                heard_at, failures = self.now(), 0
            except (NoAnswer, ServerError, LimitReached) as error:
                pause_s = self._pause_s(error, failures, silent_s=self.now() - heard_at)
                failures += 1
            else:
                # the server should have waited; one that does not is not asked without a pause
                quick = quick + 1 if self.now() - asked_at < 1 else 0
                pause_s = POLL_S[min(quick, len(POLL_S)) - 1] if quick else 0.0
            if not all(image.is_final for image in images):
                yield from sleep(max(0.0, min(pause_s, ends_at - self.now())))
        return images

    def _pause_s(self, error: DarkroomError, failures: int, *, silent_s: float) -> float:
        """The pause after an error while accepted images are waited for. Raises the error if it will not pass."""
        if not self.retries.is_outwaited(error, silent_s=silent_s):
            raise error
        delays_s = self.retries.delays_s or (1.0,)
        return self.retries.spread_s(delays_s[min(failures, len(delays_s) - 1)], error)

    def _polled(self, images: Sequence[Image]) -> ReadImages:
        known = {image.id: image for image in images}

        def read(left_s: float) -> Operation[list[Image]]:
            for image in list(known.values()):
                if not image.is_final:
                    known[image.id] = yield from self.read(image.id, left_s)
            return list(known.values())

        return read


def picked(images: Sequence[Image]) -> Image:
    """The first image, which is completed.

    Raises:
        ImageFailed: it ended without a picture.
    """
    if images[0].is_completed:
        return images[0]
    raise failure(images[0], images)


def any_completed(images: Sequence[Image]) -> list[Image]:
    """All images of a batch, of which at least one is completed.

    Raises:
        ImageFailed: none of them is.
    """
    if any(image.is_completed for image in images):
        return list(images)
    raise failure(next((image for image in images if image.status == Status.FAILED), images[0]), images)


def failure(image: Image, images: Sequence[Image] = ()) -> ImageFailed:
    if image.status == Status.CANCELLED:
        return ImageCancelled(f"image {image.id} was cancelled", code="cancelled", image=image, images=images)
    code, detail = (image.error.code, image.error.detail) if image.error else ("failed", "there is no picture")
    return ImageFailed(detail, code=code, image=image, images=images)
