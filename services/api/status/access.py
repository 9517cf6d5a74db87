"""Who is an operator: an owner that OPERATORS names; without identity, who is on this machine.

Without identity everyone is the same owner, so the address decides, and no proxy may be between. Both ends must be
loopback: the peer, and the Host, which a page of another site cannot choose (DNS rebinding). A proxy on this machine
makes everyone's peer loopback. It adds a header or is listed in TRUSTED_PROXIES, and either refuses.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from aiohttp import web

from common.domain.errors import Forbidden
from common.runtime.addresses import LOOPBACK, host_of
from common.runtime.settings import Settings
from services.api.auth.identity import Caller

# what proxies add; some add only one of them
FORWARDED: Final = (
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Forwarded-Server",
    "X-Real-IP",
    "CF-Connecting-IP",
    "True-Client-IP",
)


def require_operator(request: web.Request, caller: Caller, settings: Settings) -> None:
    """
    Raises:
        Forbidden: the caller is no operator.
    """
    if settings.has_identity:
        if caller.owner not in settings.operators:
            raise Forbidden("this needs an operator; OPERATORS lists them", code="not_operator")
        return
    reason = _reason_to_refuse(request, settings)
    if reason:
        raise Forbidden(f"without authentication only this machine may do this, and {reason}", code="not_operator")


def _reason_to_refuse(request: web.Request, settings: Settings) -> str:
    if settings.trusted_proxies:
        return "TRUSTED_PROXIES is set"
    if found := [name for name in FORWARDED if name in request.headers]:
        return f"the request came through a proxy ({found[0]})"
    if not _is_loopback(request.remote or ""):
        return "the request came from another one"
    if (host_of(request.host) or "") not in LOOPBACK:
        return "the request names another host"
    return ""


def _is_loopback(peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
