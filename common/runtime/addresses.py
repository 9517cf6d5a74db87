"""Names and addresses of an HTTP server, as settings give them and as requests send them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_NAME: Final = re.compile(r"\*|(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]]+)(?::[0-9]{1,5})?")
# the path becomes a part of routes and pages, so it has plain characters only
_PUBLIC_URL: Final = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?")


def _host_name(value: str) -> str:
    name = value.lower().rstrip(".")
    if is_ip(name.strip("[]")):
        return str(ipaddress.ip_address(name.strip("[]")))
    if _NAME.fullmatch(name) is None:
        raise ValueError("must be host names without a port: draw.example.org,*.example.org,[::1]; or * for any")
    return name


def _public_url(value: str) -> str:
    if _PUBLIC_URL.fullmatch(value) is None:
        raise ValueError("must be a URL in lower case without a query: https://draw.example.org/, https://host/draw/")
    return value.rstrip("/")


def _network(value: object) -> object:
    try:
        return ipaddress.ip_network(value, strict=False) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError("must be IP addresses or networks: 127.0.0.1,10.0.0.0/8,fd00::/8") from error


HostName = Annotated[str, AfterValidator(_host_name)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Network: TypeAlias = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def url_of(host: str, port: int) -> str:
    """The URL of a server on this address; an IPv6 address is put into brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def path_of(public_url: str | None) -> str:
    """The path of a public URL without a slash at its end; empty for the root."""
    return urlsplit(public_url or "").path.rstrip("/")


def host_of(header: str) -> str | None:
    """The name in a Host header, in lower case and without its port; None if it cannot be read."""
    match = _HOST.fullmatch(header)
    if match is None:
        return None
    name = match[1].lower().rstrip(".")
    if name.startswith("["):
        return str(ipaddress.ip_address(name[1:-1])) if is_ip(name[1:-1]) else None
    return name


def is_allowed_host(header: str, allowed: Collection[str]) -> bool:
    """Whether a Host header names one of the allowed hosts: a name, `*.<domain>`, or `*` for any."""
    name = host_of(header)
    if name is None:
        return False
    domains = [name[at.start() :] for at in re.finditer(r"\.", name)]
    return bool({"*", name, *(f"*{domain}" for domain in domains)} & set(allowed))
