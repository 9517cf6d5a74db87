"""The options of HTTP connections and of websockets, which both transports share."""

from __future__ import annotations

import ssl
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import httpx2

from darkroom_client import faults

CONNECT_S: Final = 10.0
MAX_FRAME: Final = 32_000_000  # bytes; a hello with 200 images of the longest prompts has 4,000,000
PING_S: Final = 20.0  # a connection that a firewall has dropped is noticed within twice this
KEPT_CONNECTIONS: Final = 20


def certificates() -> ssl.SSLContext:
    """The certificates that are trusted: those of SSL_CERT_FILE or SSL_CERT_DIR, else those of this machine.

    Raises:
        Misconfigured: they cannot be read.
    """
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        raise faults.of_certificates(error) from error


def http_options(context: ssl.SSLContext, *, trust_env: bool) -> dict[str, Any]:
    """The options of an HTTP client. It has no credential of its own: each request brings what it may send."""
    return {
        "verify": context,
        "trust_env": trust_env,
        "follow_redirects": False,
        "headers": {"User-Agent": user_agent()},
        # any number of orders may wait at once; waiting for a connection would look like a slow server
        "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS),
    }


def socket_options(url: str, context: ssl.SSLContext, *, trust_env: bool) -> dict[str, Any]:
    """The options of a websocket; it trusts the same certificates as HTTP."""
    return {
        "ssl": context if url.startswith("wss:") else None,
        "user_agent_header": user_agent(),
        "proxy": True if trust_env else None,
        "compression": None,
        "max_size": MAX_FRAME,
        "ping_interval": PING_S,
        "ping_timeout": PING_S,
        "close_timeout": 2,
    }


def bare_timeout(read_s: float) -> httpx2.Timeout:
    return httpx2.Timeout(read_s, connect=min(CONNECT_S, read_s), pool=None)


def user_agent() -> str:
    try:
        return f"darkroom-client/{version('darkroom-client')}"
    except PackageNotFoundError:  # from a folder that is not installed
        return "darkroom-client"
