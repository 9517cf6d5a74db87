"""The address of a webhook, as an order or an API key names it."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import Field, TypeAdapter, ValidationError

from common.domain.errors import Invalid

MAX_URL: Final = 2000  # characters
# Exact, so that the contract allows what the code accepts. The last label of a name begins with a letter: resolvers
# read `127.1`, `2130706433` and `0x7f000001` as addresses. No credentials, no fragment, no IPv6 address.
_BYTE: Final = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_HOST: Final = rf"(([A-Za-z0-9_-]{{1,63}}\.)*[A-Za-z_][A-Za-z0-9_-]{{0,62}}|({_BYTE}\.){{3}}{_BYTE})"
_PORT: Final = r"(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?"
WebhookUrl = Annotated[str, Field(max_length=MAX_URL, pattern=rf'^https?://{_HOST}{_PORT}([/?][!-"$-~]*)?$')]

_URL: Final = TypeAdapter(WebhookUrl)


def parse_webhook(value: object) -> str:
    """Raises Invalid."""
    try:
        return _URL.validate_python(value, strict=True)
    except ValidationError as error:
        raise Invalid("the webhook is not an https URL that an order may name", code="invalid_webhook") from error


def webhook_host(url: str) -> str:
    """The name or address in the URL, in lower case."""
    return urlsplit(url).hostname or ""
