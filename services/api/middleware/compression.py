"""Answers compressed for clients that accept it.

No secret can be guessed from the sizes of answers (BREACH): a request needs a token in a header, not a cookie, so a
page of another host cannot send one for its visitor.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from typing import Final

from aiohttp import hdrs, web

_NO_QUALITY: Final = re.compile(r"q\s*=\s*0(?:\.0*)?")
# a smaller answer is one packet anyway; a larger one would stop the event loop for more than half a millisecond
_SMALLEST: Final = 1_400
_LARGEST: Final = 64 * 1024
_FASTEST: Final = 1  # of the levels of zlib


def accepts_gzip(lines: Sequence[str]) -> bool:
    """Whether Accept-Encoding names gzip (RFC 9110, section 12.5.3); `gzip;q=0` excludes it."""
    for coding in ",".join(lines).lower().split(","):
        name, *parameters = (part.strip() for part in coding.split(";"))
        if name in {"gzip", "x-gzip"}:
            return not any(_NO_QUALITY.fullmatch(parameter) for parameter in parameters)
    return False


def compressed(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """The answer of a handler; JSON is sent compressed, which makes a page of the history a fifth."""
    if not isinstance(response, web.Response) or response.content_type != "application/json":
        return response
    body = response.body
    if not isinstance(body, bytes) or not _SMALLEST <= len(body) <= _LARGEST:
        return response
    response.headers.add(hdrs.VARY, hdrs.ACCEPT_ENCODING)
    if accepts_gzip(request.headers.getall(hdrs.ACCEPT_ENCODING, ())):
        # not aiohttp's `enable_compression`: it goes through a thread, which takes longer than this
        response.body = gzip.compress(body, compresslevel=_FASTEST, mtime=0)
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    return response
