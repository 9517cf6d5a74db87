"""Every error that Darkroom raises on purpose, split by what the caller does about it.

    ServiceError
    ├── BadRequest          fix the request: asking again changes nothing
    │   ├── Invalid         a field or a whole body cannot be taken
    │   ├── Unauthorized    who calls is not known
    │   ├── Forbidden       known or not, this may not be done from there
    │   ├── NotFound        nothing there that this caller may see
    │   ├── Gone            it was there, and was deleted
    │   ├── InvalidTransition  the record's state does not allow the move
    │   ├── Duplicate       a unique key of the record is taken
    │   └── LimitReached    too many for now; says when to ask again
    ├── Unavailable         ask again later: something we stand on does not answer
    │   ├── Refused         it answers, but does not accept this one
    │   └── Unconfirmed     it may have happened or not; only the record knows
    ├── InferenceError      what the inference service made of an order
    │   ├── Unreachable     it refuses the connection or does not resolve: nobody's failure but its own
    │   ├── Transient       it timed out, broke off or is busy; says how long to wait, where it said so
    │   ├── Rejected        it will not paint this order, ever
    │   └── BadImage        it answered with what is not a usable picture
    ├── CursorGone          the event log no longer holds what the cursor names
    ├── MediaMissing        so many files are missing that the folder must be the wrong one
    └── Misconfigured       give up: an operator has to act

`code` is stable and part of the contract; `detail` is for people and may change.
"""

from __future__ import annotations


class ServiceError(Exception):
    """Root of the tree; `code` is what machines read, `detail` what people read."""

    code = "internal"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code


class BadRequest(ServiceError):
    code = "bad_request"


class Invalid(BadRequest):
    """What came in cannot be taken; `fields` maps each offending field to what is wrong with it."""

    code = "invalid"

    def __init__(self, detail: str, *, code: str | None = None, fields: dict[str, str] | None = None) -> None:
        super().__init__(detail, code=code)
        self.fields = fields or {}


class Unauthorized(BadRequest):
    """The one answer to every caller who is not known: why stays here, or a forger would learn from it."""

    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__("this needs a bearer token or an API key that holds")


class Forbidden(BadRequest):
    code = "forbidden"


class NotFound(BadRequest):
    code = "not_found"


class Gone(BadRequest):
    code = "gone"


class InvalidTransition(BadRequest):
    """The image's state does not allow the move; `status` is the state it is in."""

    code = "wrong_state"

    def __init__(self, detail: str, *, status: str, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.status = status


class Duplicate(BadRequest):
    """A unique key is taken; `key` is `id`, `slot` or `idempotency`."""

    code = "duplicate"

    def __init__(self, key: str) -> None:
        super().__init__(f"another record already has this {key}")
        self.key = key


class LimitReached(BadRequest):
    """A limit of the owner is used up; `retry_after_s` says when it can be asked again."""

    code = "limit_reached"

    def __init__(self, detail: str, *, retry_after_s: float, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s


class Unavailable(ServiceError):
    """A dependency does not answer; `what` names it (`bus`, `store`, `media`, `inference`)."""

    code = "unavailable"

    def __init__(self, what: str, detail: str = "") -> None:
        super().__init__(f"{what} is unavailable" + (f": {detail}" if detail else ""))
        self.what = what


class Refused(Unavailable):
    """It answers, but does not accept this one: a queue is full, a right is missing."""


class Unconfirmed(Unavailable):
    """The outcome is unknown. Never repaired at the call: reconcile sees to it."""

    code = "unconfirmed"


class InferenceError(ServiceError):
    code = "inference_failed"


class Unreachable(InferenceError):
    code = "inference_unreachable"


class Transient(InferenceError):
    """Worth another try, after `retry_after_s` where the service named a time."""

    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Rejected(InferenceError):
    code = "inference_refused"


class BadImage(InferenceError):
    code = "bad_image"


class CursorGone(ServiceError):
    code = "cursor_gone"


class MediaMissing(ServiceError):
    code = "media_missing"


class Misconfigured(ServiceError):
    code = "misconfigured"
