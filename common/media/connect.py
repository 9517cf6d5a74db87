"""The choice of the media store by the form of MEDIA_ROOT."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import unquote

from common.domain.errors import Misconfigured
from common.media.files import FileMedia
from common.media.objects.location import SCHEME, Location
from common.media.port import Media
from common.runtime.setting_groups.objects import ObjectStoreSettings


def open_media(
    root: str, objects: ObjectStoreSettings | None = None, *, read_only: bool = False
) -> AbstractAsyncContextManager[Media]:
    """The media in this folder (relative, absolute, or `file:///…`), or in the bucket of `s3://bucket/prefix`.

    A folder is created when the context is entered; a bucket must exist.

    With `read_only` the folder has to exist too, and nothing is written.

    Raises:
        Misconfigured: the folder or the bucket cannot be used.
        Unavailable: on entering, the object store does not answer.
    """
    if root.startswith(SCHEME):
        return _objects(root, objects or ObjectStoreSettings(), read_only=read_only)
    return FileMedia.open(_folder(root), read_only=read_only)


def _objects(root: str, settings: ObjectStoreSettings, *, read_only: bool) -> AbstractAsyncContextManager[Media]:
    location = Location.of(root)
    try:
        from common.media.objects.media import ObjectMedia
    except ImportError as error:
        raise Misconfigured(
            f"MEDIA_ROOT: {SCHEME} needs the packages of the extra, pip install 'darkroom[objects]': {error}",
            code="bad_setting",
        ) from error
    return ObjectMedia.open(location, settings, read_only=read_only)


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
            f"MEDIA_ROOT: {found[1]}:// is not supported; use a folder, or s3://bucket/prefix", code="bad_setting"
        )
    if not root.strip() or "\0" in root:
        raise Misconfigured("MEDIA_ROOT: must be the path of a folder", code="bad_setting")
    return Path(root)
