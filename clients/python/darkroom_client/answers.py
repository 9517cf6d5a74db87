"""Answers of HTTP, read into models and errors. A proxy or another program may have sent them instead of Darkroom."""

from __future__ import annotations

import email.utils
import json
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ValidationError

from darkroom_client.effects import Answer
from darkroom_client.errors import ApiError, Redirected, UnexpectedAnswer, error_type
from darkroom_client.models import Image

MAX_RETRY_AFTER_S: Final = 10_000_000.0
M = TypeVar("M", bound=BaseModel)


def read_model(answer: Answer, model: type[M], what: str) -> M:
    """The model in the body of a successful answer.

    Raises:
        ApiError: the server refused the request.
        UnexpectedAnswer: something else came.
    """
    value = _value(answer, what)
    try:
        return model.model_validate(value)
    except (ValidationError, TypeError) as error:
        raise _of_another_form(answer, value, what) from error


def read_images(answer: Answer) -> list[Image]:
    """The images that a request for one or several is answered with; those in a problem have ended without a picture.

    Raises:
        ApiError: the server refused the request.
        UnexpectedAnswer: something else came.
    """
    value = _json(answer.body)
    if isinstance(value, dict) and isinstance(value.get("image"), dict):
        value = {"images": value.get("images"), **value["image"]}  # a problem that says how the image ended
    else:
        value = _value(answer, "an image")
    found = value.get("images") if isinstance(value, dict) else None
    try:
        return [Image.model_validate(each) for each in found or [value]]
    except (ValidationError, TypeError) as error:
        raise _of_another_form(answer, value, "an image") from error


def check(answer: Answer) -> None:
    """
    Raises:
        ApiError: the server refused the request.
        UnexpectedAnswer: a redirect, or no Darkroom server answered.
    """
    if 300 <= answer.status < 400:
        # not followed: a POST would become a GET, and the token would go to an address that nobody named
        target = shown(answer.headers.get("location", "")) or "nowhere"
        text = f"{shown(answer.url)} answered {answer.status}, a redirect to {target}"
        raise Redirected(text, url=answer.url, status=answer.status, content_type=answer.content_type)
    if answer.status >= 400:
        raise problem(answer)


def problem(answer: Answer) -> ApiError | UnexpectedAnswer:
    """The error of an answer with a status from 400 on."""
    value = _json(answer.body)
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("code"), str)
        or not isinstance(value.get("detail"), str)
    ):
        return unexpected(answer)
    fields = value.get("fields")
    status_of_image = value.get("imageStatus")
    return error_type(answer.status)(
        value["detail"],
        code=value["code"],
        status=answer.status,
        retry_after_s=retry_after_s(answer.headers.get("retry-after")),
        fields={str(name): str(text) for name, text in fields.items()} if isinstance(fields, dict) else None,
        image_status=status_of_image if isinstance(status_of_image, str) else None,
        url=answer.url,
    )


def unexpected(answer: Answer, wanted: str = "", *, but: str = "") -> UnexpectedAnswer:
    """The error of an answer that is not what was wanted, `but` something that looks like it."""
    text = f"{shown(answer.url)} answered {answer.status} with {answer.content_type}{but}"
    return UnexpectedAnswer(
        f"{text}, not with {wanted}" if wanted else text,
        url=answer.url,
        status=answer.status,
        content_type=answer.content_type,
        wanted=wanted,
    )


def retry_after_s(value: str | None) -> float | None:
    """Seconds of a `Retry-After` (RFC 9110, section 10.2.3): a number, or a date; None if it is neither."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:12]), MAX_RETRY_AFTER_S)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(0.0, (aware - datetime.now(UTC)).total_seconds()), MAX_RETRY_AFTER_S)


def shown(url: str) -> str:
    """The URL for people: without a signature, a user or a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url[:200]
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))[:500]


def _value(answer: Answer, what: str) -> Any:
    check(answer)
    value = _json(answer.body)
    if value is None:
        raise unexpected(answer, what)
    return value


def _of_another_form(answer: Answer, value: object, what: str) -> UnexpectedAnswer:
    return unexpected(answer, what, but=" of another form" if isinstance(value, dict) else "")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
