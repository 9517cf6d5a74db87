"""Which store a URL means. Nothing is opened before the context is entered."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import unquote

from common.domain.errors import Misconfigured
from common.store.port import Store


def open_store(url: str, *, timeout_s: float) -> AbstractAsyncContextManager[Store]:
    """The store of this URL; `timeout_s` limits every answer of it.

    Raises:
        Misconfigured: no store is meant by that. Its text never holds the URL, which may hold a password.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "sqlite":
        from common.store.sqlite import SqliteStore

        return SqliteStore.open(_sqlite_path(rest), timeout_s=timeout_s)
    if separator and scheme in {"mongodb", "mongodb+srv"}:
        from common.store.mongo import MongoStore  # 0.5 s, which a process without MongoDB need not wait

        return MongoStore.open(url, timeout_s=timeout_s)
    named = f"not {scheme}://" if separator and re.fullmatch(r"[a-z][a-z0-9+.-]{0,20}", scheme) else "not what is set"
    raise Misconfigured(f"STORE_URL: sqlite:///path or mongodb://host/database, {named}", code="bad_setting")


def _sqlite_path(rest: str) -> Path:
    """`sqlite:///relative`, `sqlite:////absolute`."""
    path = unquote(rest[1:])
    if not rest.startswith("/") or not path or path.endswith("/"):
        raise Misconfigured(
            "STORE_URL: sqlite:///relative/path.db or sqlite:////absolute/path.db: three slashes, or four",
            code="bad_setting",
        )
    if path == ":memory:" or "?" in rest or "#" in rest or "\0" in path:
        raise Misconfigured(
            "STORE_URL: sqlite needs a file that processes can share, without options", code="bad_setting"
        )
    return Path(path)
