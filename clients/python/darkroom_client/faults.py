"""Errors of the libraries below, as errors of this one."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    WebSocketException,
)

from darkroom_client.answers import check, shown, unexpected
from darkroom_client.effects import Answer, SocketClosed
from darkroom_client.errors import (
    ConnectionBroken,
    DarkroomError,
    Misconfigured,
    TlsFailed,
    UnexpectedAnswer,
    Unreachable,
)

HTTP_ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, ValueError)
SOCKET_ERRORS = (WebSocketException, OSError, EOFError, ImportError, ValueError)
PROXY_ERRORS = (httpx2.InvalidURL, ImportError, ValueError)


def of_http(url: str, error: Exception, *, has_answered: bool) -> DarkroomError:
    """`has_answered`: the headers of the answer had arrived."""
    if isinstance(error, httpx2.LocalProtocolError | UnicodeEncodeError):
        # the text of the library shows the value, which may be a token
        return Misconfigured(f"the request to {shown(url)} has a header that cannot be sent", code="invalid_header")
    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol | ValueError):
        return Misconfigured(f"{shown(url)} is not a valid URL", code="invalid_url")
    if (tls := _tls(url, error)) is not None:
        return tls
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Unreachable(f"no server answers at {_server(url)}", url=url)
    is_other = not has_answered and isinstance(error, httpx2.ReadError | httpx2.RemoteProtocolError)
    reason = str(error) or type(error).__name__
    return ConnectionBroken(f"the connection to {shown(url)} broke: {reason}", url=url, is_other_protocol=is_other)


def of_handshake(url: str, error: Exception) -> DarkroomError:
    """The error of a websocket that could not be opened."""
    if isinstance(error, InvalidStatus):
        return _refusal(_answer(url, error))
    if isinstance(error, InvalidProxy | ImportError):
        return of_proxy(error)
    if (tls := _tls(url, error)) is not None:
        return tls
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return Unreachable(f"no server answers at {_server(url)}", url=url)
    reason = str(error) or type(error).__name__
    if isinstance(error, InvalidHandshake) and not isinstance(error, InvalidMessage):
        return UnexpectedAnswer(f"{shown(url)} does not open a websocket: {reason}", url=url)
    return ConnectionBroken(f"the connection to {shown(url)} broke: {reason}", url=url)


def of_socket(error: Exception) -> SocketClosed:
    """The end of an open websocket."""
    if isinstance(error, ConnectionClosed) and error.rcvd is not None:
        return SocketClosed(error.rcvd.code, error.rcvd.reason)
    return SocketClosed(1006, str(error))


def of_proxy(error: Exception) -> Misconfigured:
    """A proxy of the environment that cannot be used. Its URL may hold a password, so it is not shown."""
    if isinstance(error, ImportError):
        text = "the environment names a SOCKS proxy, and the library for it is not installed (socksio, python-socks)"
    else:
        text = "the environment names a proxy that is not a valid URL (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY)"
    return Misconfigured(f"{text}; trust_env=False does without", code="invalid_proxy")


def of_certificates(error: OSError) -> Misconfigured:
    """Trusted certificates that cannot be read; an `ssl.SSLError` is an `OSError`."""
    reason = error.strerror or str(error)
    return Misconfigured(
        f"the trusted certificates cannot be read (SSL_CERT_FILE, SSL_CERT_DIR): {reason}", code="invalid_certificates"
    )


def too_large(url: str, max_bytes: int) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"{shown(url)} answered with more than {max_bytes} bytes", url=url)


def too_slow(url: str, limit_s: float) -> ConnectionBroken:
    return ConnectionBroken(f"the connection to {shown(url)} broke: no whole answer within {limit_s:g} s", url=url)


def _refusal(answer: Answer) -> DarkroomError:
    """The error of an answer to a handshake that opens no websocket."""
    try:
        check(answer)
    except DarkroomError as found:
        return found
    return unexpected(answer, "a websocket")


def _answer(url: str, error: InvalidStatus) -> Answer:
    response = error.response
    headers = {name.lower(): value for name, value in response.headers.raw_items()}
    return Answer(url, response.status_code, headers, bytes(response.body or b""))


def _server(url: str) -> str:
    """The address of the server, without the route that was asked for."""
    parts = urlsplit(shown(url))
    return f"{parts.scheme.replace('ws', 'http')}://{parts.netloc}"


def _tls(url: str, error: BaseException) -> TlsFailed | None:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = cause.verify_message or str(cause)
            return TlsFailed(f"the certificate of {_server(url)} is not accepted ({reason})", url=url)
        if isinstance(cause, ssl.SSLError):
            reason = cause.reason or str(cause)
            return TlsFailed(f"there is no TLS at {_server(url)} ({reason})", url=url, is_certificate=False)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(10):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__
