"""The sentences in which `darkroom generate` says why there is no picture."""

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


def sentence(error: DarkroomError) -> str:
    """The error with what to do about it."""
    match error:
        case Misconfigured() | Redirected():
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
