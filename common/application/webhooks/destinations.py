"""Which addresses a webhook may have.

An order is refused early if its address can never be used. The address that a name resolves to is checked when the
connection is made (`services/webhooks/resolving.py`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import urlsplit

from common.domain.errors import Forbidden
from common.domain.requests import GenerationRequest
from common.domain.webhooks import webhook_host
from common.runtime.addresses import is_allowed_host, is_ip
from common.runtime.settings import Settings

# addresses that carry an IPv4 address: 6to4, Teredo, NAT64 (RFC 3056, 4380, 6052)
_TUNNELS: Final = tuple(map(ipaddress.IPv6Network, ("2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48")))


@dataclass(frozen=True, slots=True)
class Destinations:
    """The rules of this deployment. `allowed_hosts` may have plain http and private addresses."""

    enabled: bool
    allowed_hosts: Collection[str] = ()

    @classmethod
    def of(cls, settings: Settings) -> Destinations:
        return cls(bool(settings.webhook_secrets), settings.webhook_allowed_hosts)

    def require(self, url: str | None) -> None:
        """
        Raises:
            Forbidden: no order may have a webhook, or none with this address.
        """
        if url is None:
            return
        if not self.enabled:
            raise Forbidden("this server sends no webhooks: WEBHOOK_SECRETS is not set", code="webhook_refused")
        host = webhook_host(url)
        if self.is_trusted(host):
            return
        if urlsplit(url).scheme != "https":
            raise Forbidden("the webhook must be an https URL", code="webhook_refused")
        if is_ip(host) and not is_public(host):
            raise Forbidden("the webhook names an address that is not public", code="webhook_refused")

    def addressed(self, request: GenerationRequest, *, webhook_of_key: str | None) -> GenerationRequest:
        """The request with its own webhook, else with that of the API key.

        Raises:
            Forbidden: the webhook may not be used; an order whose events would be lost is not accepted.
        """
        if request.webhook is not None or webhook_of_key is None:
            self.require(request.webhook)
            return request
        try:
            self.require(webhook_of_key)
        except Forbidden as error:
            raise Forbidden(f"the webhook of this API key: {error.detail}", code=error.code) from error
        return request.model_copy(update={"webhook": webhook_of_key})

    def is_trusted(self, host: str) -> bool:
        return is_allowed_host(host, self.allowed_hosts)

    def may_connect(self, host: str, address: str) -> bool:
        """Whether a webhook of this host may be sent to the address that the host has resolved to."""
        return self.is_trusted(host) or is_public(address)


def is_public(address: str) -> bool:
    """Whether the address is in the public Internet, for all that it may contain or lead to."""
    try:
        ip: IPv4Address | IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in network for network in _TUNNELS):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback)
