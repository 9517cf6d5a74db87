"""The client of a request that came through proxies, by X-Forwarded-For, -Host and -Proto or by Forwarded (RFC 7239).

Every client can send these headers. They count only if the connection comes from a trusted proxy, and of several
values the last one counts that a trusted proxy has added.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from aiohttp import web

from services.api.context import CONTEXT

_PAIR: Final = re.compile(r"([A-Za-z]+)=(?:\"([^\"]*)\"|([^\s;,\"]*))")
_WITH_PORT: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?|([0-9.]+)(?::\d+)?")
_MAX_HOPS: Final = 32
_HEADERS: Final = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded")
ProxyNetworks = Collection[IPv4Network | IPv6Network]


@dataclass(frozen=True, slots=True)
class ForwardedFor:
    """The address of the client, the host and the scheme that it asked for; None if no trusted proxy says so."""

    address: str
    host: str | None = None
    scheme: str | None = None


def client_of(request: web.Request) -> ForwardedFor:
    """The client, by the headers of one of TRUSTED_PROXIES or by the connection."""
    trusted = request.app[CONTEXT].settings.trusted_proxies
    headers = {name: ",".join(request.headers.getall(name, [])) for name in _HEADERS} if trusted else {}
    return forwarded_for(request.remote, headers, trusted)


def base_url(request: web.Request) -> str:
    """The URL of the api as the client sees it, without a slash at its end: PUBLIC_URL, else as it was asked for."""
    if public_url := request.app[CONTEXT].settings.public_url:
        return public_url
    client = client_of(request)
    return f"{client.scheme or request.scheme}://{client.host or request.host}"


def forwarded_for(peer: str | None, headers: Mapping[str, str], trusted: ProxyNetworks) -> ForwardedFor:
    """The client by the headers of a trusted proxy; else the peer of the connection itself.

    `headers` holds the values of repeated headers joined by commas.
    """
    peer = peer or ""
    if not _is_trusted(peer, trusted):
        return ForwardedFor(peer)
    elements = [_element(part) for part in headers.get("Forwarded", "").split(",")[-_MAX_HOPS:]]
    addresses = _list(headers.get("X-Forwarded-For")) or [each["for"] for each in elements if "for" in each]
    return ForwardedFor(
        _client(peer, addresses, trusted),
        _last(headers.get("X-Forwarded-Host")) or elements[-1].get("host"),
        _scheme(_last(headers.get("X-Forwarded-Proto")) or elements[-1].get("proto")),
    )


def _client(peer: str, addresses: Sequence[str], trusted: ProxyNetworks) -> str:
    """The last address that is not a proxy's: those before it may be invented."""
    found = peer
    for address in reversed(addresses):
        match = _WITH_PORT.fullmatch(address)
        found = (match[1] or match[2]) if match else address
        if not _is_trusted(found, trusted):
            break
    return found[:64]


def _scheme(text: str | None) -> str | None:
    return text.lower() if text is not None and text.lower() in {"http", "https"} else None


def _is_trusted(address: str, trusted: ProxyNetworks) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(mapped in network for network in trusted)


def _element(text: str) -> dict[str, str]:
    return {name.lower(): quoted or plain for name, quoted, plain in _PAIR.findall(text)}


def _list(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()][-_MAX_HOPS:]


def _last(value: str | None) -> str | None:
    return next(iter(reversed(_list(value))), None)
