"""Every error that Darkroom raises on purpose, grouped by what the caller has to do.

    ServiceError
    ├── BadRequest             fix the request: the same request fails again
    │   ├── Invalid            a field or the whole body is not valid
    │   ├── Unauthorized       the caller is not authenticated
    │   ├── Forbidden          the caller may not do this
    │   ├── NotFound           no such object is visible to the caller
    │   ├── Gone               the object existed and was deleted
    │   ├── InvalidTransition  the status of the image does not allow the transition
    │   ├── Duplicate          another record has the same unique key
    │   └── LimitReached       a limit is used up; says when to try again
    ├── Unavailable            try again later: a dependency does not answer
    │   ├── NotAccepted        the dependency answers, but does not accept this request
    │   ├── Unconfirmed        the outcome is unknown; only the record shows it
    │   └── Unreadable         this record or entry cannot be read; the others can
    ├── InferenceError         the inference service did not paint the image
    │   ├── Unreachable        it refuses the connection, or its name does not resolve
    │   ├── Transient          it timed out, closed the connection or is busy; may say how long to wait
    │   ├── Rejected           it will never accept this request
    │   ├── Denied             it refuses Darkroom itself, or has no such route: an operator has to act
    │   └── BadImage           its answer is not a usable picture
    ├── CursorGone             the event log no longer holds the event that the cursor names
    └── Misconfigured          give up: an operator has to change something

`code` is stable and part of the contract; `detail` is for people and may change.
"""

from __future__ import annotations


class ServiceError(Exception):
    """Root of the tree; `code` is for programs, `detail` for people."""

    code = "internal"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code


class BadRequest(ServiceError):
    code = "bad_request"


class Invalid(BadRequest):
    """The input is not valid; `fields` maps the name of each wrong field to the reason."""

    code = "invalid"

    def __init__(self, detail: str, *, code: str | None = None, fields: dict[str, str] | None = None) -> None:
        super().__init__(detail, code=code)
        self.fields = fields or {}


class Unauthorized(BadRequest):
    """The same answer for every failed authentication: a reason would help an attacker."""

    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__("a valid bearer token or API key is required")


class Forbidden(BadRequest):
    code = "forbidden"


class NotFound(BadRequest):
    code = "not_found"


class Gone(BadRequest):
    code = "gone"


class InvalidTransition(BadRequest):
    """The state of the image does not allow the transition; `status` is its current status."""

    code = "wrong_state"

    def __init__(self, detail: str, *, status: str, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.status = status


class Duplicate(BadRequest):
    """Another record has the same unique key; `key` is `id`, `slot` or `idempotency`."""

    code = "duplicate"

    def __init__(self, key: str) -> None:
        super().__init__(f"another record already has this {key}")
        self.key = key


class LimitReached(BadRequest):
    """A limit of the owner has too little left; `retry_after_s` says when to try again, `left` how much there is."""

    code = "limit_reached"

    def __init__(self, detail: str, *, retry_after_s: float, code: str | None = None, left: int = 0) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s
        self.left = left


class Unavailable(ServiceError):
    """A dependency does not answer; `what` names it (`bus`, `store`, `media`, `inference`)."""

    code = "unavailable"

    def __init__(self, what: str, detail: str = "") -> None:
        super().__init__(f"{what} is unavailable" + (f": {detail}" if detail else ""))
        self.what = what


class NotAccepted(Unavailable):
    """The dependency answers, but does not accept this request: a queue is full, a right is missing."""


class Unconfirmed(Unavailable):
    """The outcome is unknown. The caller does not repair it; the janitor's reconcile run does."""

    code = "unconfirmed"


class Unreadable(Unavailable):
    """One record or entry is damaged, or written by a newer version; a list of records leaves it out."""

    code = "unreadable"


class InferenceError(ServiceError):
    """`needs_new_id`: the run under the remote id of the job is over, without a picture; the next one needs another."""

    code = "inference_failed"
    needs_new_id = False


class Unreachable(InferenceError):
    code = "inference_unreachable"


class Transient(InferenceError):
    """Worth another attempt, after `retry_after_s` if the service named a time."""

    def __init__(self, detail: str, *, retry_after_s: float | None = None, needs_new_id: bool = False) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        self.needs_new_id = needs_new_id


class Rejected(InferenceError):
    code = "inference_refused"


class Denied(InferenceError):
    """`detail` is constant, for owners; `reason` is the answer of the service, for the operator's log."""

    code = "inference_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__("the inference service is not available at the moment; the image waits for it")
        self.reason = reason


class BadImage(InferenceError):
    code = "bad_image"
    needs_new_id = True  # the same id would give the same bytes again


class CursorGone(ServiceError):
    code = "cursor_gone"


class Misconfigured(ServiceError):
    code = "misconfigured"
