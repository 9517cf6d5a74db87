"""The password of the broker's user, kept apart from `BUS_URL`: in a URL `@`, `/`, `#` and `%` have to be encoded."""

from __future__ import annotations

from urllib.parse import quote


def with_password(url: str, password: str | None) -> str:
    """The URL with this password, encoded; the same URL without one."""
    scheme, separator, rest = url.partition("://")
    authority, slash, vhost = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    if not password or not at:
        return url
    user = credentials.partition(":")[0]
    return f"{scheme}{separator}{user}:{quote(password, safe='')}@{hosts}{slash}{vhost}"
