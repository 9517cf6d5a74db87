"""The errors of the client library as sentences that say what to do."""

from __future__ import annotations

from darkroom_client import (
    ConnectionBroken,
    DarkroomError,
    Misconfigured,
    Redirected,
    TlsFailed,
    UnexpectedAnswer,
    Unreachable,
)
from services.cli.console import CommandFailed


def failure_of(error: DarkroomError, more: str = "") -> CommandFailed:
    return CommandFailed(f"{_sentence(error)}{more}", code=error.code)


def _sentence(error: DarkroomError) -> str:
    match error:
        case Misconfigured(code="invalid_url") | Redirected():
            return f"{error}: correct --url"
        case UnexpectedAnswer(wanted="an image", status=status) if status < 400:
            return f"{error}: is --url the address of a Darkroom server?"
        case TlsFailed(is_certificate=True):
            return f"{error}; SSL_CERT_FILE names a file of trusted certificates"
        case Unreachable():
            return f"{error}; `darkroom up` starts one"
        case ConnectionBroken(is_other_protocol=True, url=url) if url.startswith("http:"):
            return f"{error}; does the server speak https?"
        case _:
            return str(error)
