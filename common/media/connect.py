"""Where the pictures lie, by the form of MEDIA_ROOT."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from common.domain.errors import Misconfigured
from common.media.files import FileMedia
from common.media.port import Media


def open_media(root: str) -> AbstractAsyncContextManager[Media]:
    """The media below this folder: relative, absolute, or `file:///…`. It is made when the context is entered.

    Raises:
        Misconfigured: the folder is none that can be used.
    """
    return FileMedia.open(_folder(root))


def _folder(root: str) -> Path:
    if root.startswith("file://"):
        parts = urlsplit(root)
        if parts.netloc not in {"", "localhost"} or not parts.path.strip("/"):
            raise Misconfigured("MEDIA_ROOT: file:///absolute/folder: three slashes", code="bad_setting")
        return Path(unquote(parts.path))
    if found := re.match(r"([a-z][a-z0-9+.-]*)://", root, re.IGNORECASE):
        # only the scheme is named: a URL may hold a secret
        raise Misconfigured(
            f"MEDIA_ROOT: object stores ({found[1]}://) are not supported yet; give a folder", code="bad_setting"
        )
    if not root.strip() or "\0" in root:
        raise Misconfigured("MEDIA_ROOT: give a folder", code="bad_setting")
    return Path(root)
