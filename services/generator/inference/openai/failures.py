"""Errors of servers with OpenAI's routes, as the errors of the port.

Three forms are known: OpenAI's `{"error": {message, type, param, code}}`, `{"detail": …}` of FastAPI, and
`{"error": "text"}`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from common.domain.errors import Denied, InferenceError, Rejected, Transient
from common.domain.texts import clean_text
from services.generator.inference.answers import error_text

# Codes of OpenAI; more than one server has copied them.
_NO_MODEL: Final = frozenset({"model_not_found"})
_NOT_PAID: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_REFUSED: Final = frozenset(
    {"content_policy_violation", "image_content_policy_violation", "moderation_blocked", "unknown_parameter"}
)
_REFUSED_TYPES: Final = frozenset({"invalid_request_error", "image_generation_user_error"})


@dataclass(frozen=True, slots=True)
class Envelope:
    """What programs read of an error; the message is for people."""

    message: str
    type: str = ""
    param: str = ""
    code: str = ""

    @property
    def names_a_field(self) -> bool:
        return bool(self.param) or self.code in _NO_MODEL

    @property
    def is_unpaid(self) -> bool:
        return self.code in _NOT_PAID


def envelope_of(text: str) -> Envelope:
    """The error in a body of any form."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    found = body.get("error") if isinstance(body, dict) else None
    if not isinstance(found, dict):
        return Envelope(error_text(text))
    return Envelope(error_text(text), *(_text(found.get(name)) for name in ("type", "param", "code")))


def _text(value: Any) -> str:
    """LocalAI's codes are numbers."""
    return clean_text(value, 64) if isinstance(value, str) else ""


def error_in_answer(found: object) -> InferenceError:
    """The error in a stream or in a body with the status 200."""
    error = envelope_of(json.dumps({"error": found}))
    if error.is_unpaid:
        return Denied(error.message)
    if error.code in _REFUSED or error.type in _REFUSED_TYPES:
        return Rejected(f"the inference service refuses the request: {error.message}")
    return Transient(f"the inference service failed: {error.message}")
