"""The choice of the record store by the scheme of its URL."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import unquote

from common.domain.errors import Misconfigured
from common.store.port import Store


def open_store(url: str, *, timeout_s: float) -> AbstractAsyncContextManager[Store]:
    """The store of this URL, opened when the context is entered; `timeout_s` limits each of its calls.

    Raises:
        Misconfigured: the URL names no store. The text never contains the URL, which may contain a password.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "sqlite":
        from common.store.sqlite import SqliteStore

        return SqliteStore.open(_sqlite_path(rest), timeout_s=timeout_s)
    if separator and scheme in {"mongodb", "mongodb+srv"}:
        from common.store.mongo import MongoStore  # an import of 0.5 s, only needed with MongoDB

        return MongoStore.open(url, timeout_s=timeout_s)
    found = f", not {scheme}://" if separator and re.fullmatch(r"[a-z][a-z0-9+.-]{0,20}", scheme) else ""
    raise Misconfigured(f"STORE_URL: must be sqlite:///path or mongodb://host/database{found}", code="bad_setting")


def store_location(url: str) -> str:
    """The hosts or the file of the URL, for a log: without user, password and options."""
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return unquote(rest.removeprefix("/"))
    return rest.partition("?")[0].partition("/")[0].rpartition("@")[2]


def _sqlite_path(rest: str) -> Path:
    """`sqlite:///relative`, `sqlite:////absolute`."""
    path = unquote(rest[1:])
    if not rest.startswith("/") or not path or path.endswith("/"):
        raise Misconfigured(
            "STORE_URL: must be sqlite:///relative/path.db or sqlite:////absolute/path.db, with three or four slashes",
            code="bad_setting",
        )
    if path == ":memory:" or "?" in rest or "#" in rest or "\0" in path:
        raise Misconfigured(
            "STORE_URL: sqlite needs the path of a file, without options and not :memory:", code="bad_setting"
        )
    return Path(path)
