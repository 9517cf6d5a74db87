"""The bucket and the prefix that MEDIA_ROOT names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from common.domain.errors import Misconfigured

SCHEME: Final = "s3://"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PART: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")  # safe in URLs and in listings of all object stores
_MAX_PREFIX: Final = 500  # a key may have 1,024 bytes in all


@dataclass(frozen=True, slots=True)
class Location:
    """`prefix` is without slashes at its ends; it may be empty."""

    bucket: str
    prefix: str

    @classmethod
    def of(cls, root: str) -> Location:
        """
        Raises:
            Misconfigured: it is not `s3://bucket` or `s3://bucket/prefix`.
        """
        bucket, _, prefix = root.removeprefix(SCHEME).partition("/")
        prefix = prefix.removesuffix("/")
        parts = prefix.split("/") if prefix else []
        if _BUCKET.fullmatch(bucket) and all(map(_PART.fullmatch, parts)) and len(prefix) <= _MAX_PREFIX:
            return cls(bucket, prefix)
        # without the text itself: an operator may have put keys into it
        raise Misconfigured(
            "MEDIA_ROOT: must be s3://bucket/prefix, with letters, digits, '.', '_' and '-' in its prefix. "
            "Keys do not belong there, but into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            code="bad_setting",
        )
