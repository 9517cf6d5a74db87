"""Every error that this library raises on purpose, grouped by what the caller can do.

    DarkroomError
    ├── NoAnswer               no Darkroom server answered; the request may or may not have had an effect
    │   ├── Unreachable        nobody listens at the address, or its name does not resolve
    │   ├── TlsFailed          the certificate is not accepted, or the server speaks no TLS
    │   ├── ConnectionBroken   the connection ended, or took too long, before the whole answer had arrived
    │   └── UnexpectedAnswer   something else answered: a proxy, a sign-in page, another program
    │       └── Redirected     the address has moved; credentials are never sent on
    ├── ApiError               the server refused the request; `code` is stable, `status` is that of HTTP
    │   ├── InvalidRequest     a field is wrong (`fields`); the same request fails again
    │   ├── Unauthorized       no credential, or one that is not valid any more
    │   ├── Forbidden          the credential does not allow this
    │   ├── NotFound           the owner has no such image
    │   ├── Gone               the image existed and was deleted
    │   ├── Conflict           the state of the image does not allow it (`image_status`)
    │   ├── LimitReached       too many requests; `retry_after_s` says when to try again
    │   └── ServerError        the server, or what it depends on, does not work at the moment
    ├── ImageFailed            the image ended without a picture; `image` is its record
    │   └── ImageCancelled     it was cancelled
    ├── StillWaiting           the caller's time limit passed first; the image goes on
    ├── Misconfigured          an argument, or the environment, cannot work: a URL, a token, a proxy, certificates
    └── BusError               the broker did not take a message, or cannot be used (`darkroom_client.bus`)
        └── NotConfirmed       nobody knows whether the broker has the message: publish it again

Each error has a `code` for programs and an `image`, which is None where there is none. The text is for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from darkroom_client.models import Image


class DarkroomError(Exception):
    """Root of the tree."""

    default_code: ClassVar[str] = "darkroom"

    def __init__(self, detail: str, *, code: str | None = None, image: Image | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.image = image


class NoAnswer(DarkroomError):
    """`is_passing` is whether the same request may be answered if it is sent again soon."""

    default_code = "no_answer"
    is_passing = True

    def __init__(self, detail: str, *, url: str = "") -> None:
        super().__init__(detail)
        self.url = url


class Unreachable(NoAnswer):
    default_code = "unreachable"


class TlsFailed(NoAnswer):
    """`is_certificate` is false if the server speaks no TLS at all."""

    default_code = "tls_failed"
    is_passing = False

    def __init__(self, detail: str, *, url: str = "", is_certificate: bool = True) -> None:
        super().__init__(detail, url=url)
        self.is_certificate = is_certificate


class ConnectionBroken(NoAnswer):
    """`is_other_protocol`: the server ended the connection without an answer, or answered in another protocol."""

    default_code = "connection_broken"

    def __init__(self, detail: str, *, url: str = "", is_other_protocol: bool = False) -> None:
        super().__init__(detail, url=url)
        self.is_other_protocol = is_other_protocol


class UnexpectedAnswer(NoAnswer):
    """`status` and `content_type` are those of the answer; `wanted` says what it should have been."""

    default_code = "unexpected_answer"

    def __init__(
        self, detail: str, *, url: str = "", status: int = 0, content_type: str = "", wanted: str = ""
    ) -> None:
        super().__init__(detail, url=url)
        self.wanted = wanted
        self.status = status
        self.content_type = content_type
        self.is_passing = status in {500, 502, 503, 504}


class Redirected(UnexpectedAnswer):
    default_code = "redirected"


class ApiError(DarkroomError):
    """A problem (RFC 9457). `retry_after_s` is None unless the server named a time."""

    default_code = "api_error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int = 0,
        retry_after_s: float | None = None,
        fields: Mapping[str, str] | None = None,
        image_status: str | None = None,
        url: str = "",
    ) -> None:
        super().__init__(detail, code=code)
        self.status = status
        self.retry_after_s = retry_after_s
        self.fields = dict(fields or {})
        self.image_status = image_status
        self.url = url

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class InvalidRequest(ApiError):
    default_code = "invalid"


class Unauthorized(ApiError):
    default_code = "unauthorized"


class Forbidden(ApiError):
    default_code = "forbidden"


class NotFound(ApiError):
    default_code = "not_found"


class Gone(ApiError):
    default_code = "gone"


class Conflict(ApiError):
    default_code = "conflict"


class LimitReached(ApiError):
    default_code = "limit_reached"


class ServerError(ApiError):
    default_code = "unavailable"


class ImageFailed(DarkroomError):
    """`images` are all images of the request; one of them is `image`, the first that failed."""

    default_code = "failed"
    image: Image

    def __init__(self, detail: str, *, code: str, image: Image, images: Sequence[Image] = ()) -> None:
        super().__init__(detail, code=code, image=image)
        self.images = list(images) or [image]

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class ImageCancelled(ImageFailed):
    default_code = "cancelled"


class StillWaiting(DarkroomError):
    """`image` is its state when the limit passed.

    It is None if the server did not answer the order within the limit: nobody knows whether it has the order. The same
    order with the same `idempotency_key` is one image.
    """

    default_code = "still_waiting"


class Misconfigured(DarkroomError):
    default_code = "misconfigured"


class BusError(DarkroomError):
    default_code = "bus"


class NotConfirmed(BusError):
    default_code = "not_confirmed"


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: LimitReached,
}


def error_type(status: int) -> type[ApiError]:
    """The class for a problem with this status of HTTP."""
    return _BY_STATUS.get(status) or (ServerError if status >= 500 else ApiError)
