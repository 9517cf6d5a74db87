"""The choice of the media store by the form of MEDIA_ROOT."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import unquote

from common.domain.errors import Misconfigured
from common.media.files import FileMedia
from common.media.port import Media


def open_media(root: str, *, read_only: bool = False) -> AbstractAsyncContextManager[Media]:
    """The media in this folder (relative, absolute, or `file:///…`), which is created when the context is entered.

    With `read_only` it has to exist, and nothing is written there.

    Raises:
        Misconfigured: the folder cannot be used.
    """
    return FileMedia.open(_folder(root), read_only=read_only)


def _folder(root: str) -> Path:
    if root.startswith("file://"):
        host, slash, path = root.removeprefix("file://").partition("/")
        folder = unquote(slash + path)
        if host not in {"", "localhost"} or not folder.strip("/") or "\0" in folder:
            raise Misconfigured("MEDIA_ROOT: must be file:///absolute/folder, with three slashes", code="bad_setting")
        return Path(folder)
    if found := re.match(r"([a-z][a-z0-9+.-]*)://", root, re.IGNORECASE):
        # only the scheme: a URL may contain a secret
        raise Misconfigured(
            f"MEDIA_ROOT: object stores ({found[1]}://) are not supported; use a folder", code="bad_setting"
        )
    if not root.strip() or "\0" in root:
        raise Misconfigured("MEDIA_ROOT: must be the path of a folder", code="bad_setting")
    return Path(root)
