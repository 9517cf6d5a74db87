"""The running server that a command calls: the options, the URL, the token."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from services.cli.console import USAGE_ERROR, CommandFailed

if TYPE_CHECKING:
    from common.runtime.settings import Settings


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="URL of the server (default: from API_HOST and API_PORT)")
    parser.add_argument("--token", help="bearer token, if the server requires one (default: DARKROOM_TOKEN)")


def url_of(arguments: argparse.Namespace, settings: Settings) -> str:
    """
    Raises:
        CommandFailed: --url is no address of a server.
    """
    return checked_url(arguments.url or local_url(settings.api_host, settings.api_port))


def token_of(arguments: argparse.Namespace, settings: Settings) -> str | None:
    """
    Raises:
        CommandFailed: no header can hold the token.
    """
    return checked_token(arguments.token or settings.darkroom_token)


def local_url(host: str, port: int) -> str:
    """The URL of a server on this machine that listens on `host`, which may be all addresses."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # it is compared, not listened on
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def checked_url(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        is_complete = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_complete = False
    if not is_complete or parts.query or parts.fragment:
        raise CommandFailed(f"--url must be http://host:port or https://host/path/, not {url!r}", status=USAGE_ERROR)
    if parts.username is not None:
        raise CommandFailed("--url must not hold a user or a password; use --token", status=USAGE_ERROR)
    return url


def checked_token(token: str | None) -> str | None:
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise CommandFailed("--token must consist of visible ASCII characters, without spaces", status=USAGE_ERROR)
    return token
