"""Marking of a picture file with its origin and its settings; its pixels stay as they are.

    read what is there ──▶ a C2PA manifest: unchanged, byte for byte
                      └──▶ XMP: merged with what is there ──▶ settings, unless there are some ──▶ signed, if configured

What cannot be added is left out with one warning; a mark never refuses a picture.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from common.domain.images import Format, Image
from common.provenance import jpeg, png, webp, xmp
from common.provenance.found import Found, MarkContainer, Unmarkable
from common.provenance.parameters import is_settings, text_of

log = logging.getLogger(__name__)

Sign = Callable[[bytes, Format], bytes]  # raises Unmarkable


@dataclass(frozen=True, slots=True)
class Marker:
    """Marks the pictures of a generator. No file with marks is larger than `max_bytes`."""

    embeds_parameters: bool
    max_bytes: int
    sign: Sign | None = None

    def mark(self, content: bytes, image: Image) -> bytes:
        """The file with its marks; as it is if it has a C2PA manifest, or cannot take any."""
        text = text_of(image) if self.embeds_parameters else None
        try:
            marked, is_signed = _marked(content, text, max_bytes=self.max_bytes)
            return marked if is_signed else self._signed(marked)
        except Exception:
            log.exception("the picture has not all of its marks")
            return content

    def _signed(self, content: bytes) -> bytes:
        if self.sign is None:
            return content
        image_format, _ = _container(content)
        try:
            signed = self.sign(content, image_format)
        except Unmarkable as error:
            log.warning("the picture has no C2PA manifest: %s", error)
            return content
        return _within(signed, content, self.max_bytes, "a C2PA manifest")


def mark_copy(copy: bytes, original: bytes | None = None) -> bytes:
    """A copy that was encoded anew, with its mark and with the settings in its original, if that has some."""
    try:
        text = None
        if original is not None:
            found = _read(_container(original)[1], original)
            text = found.parameters if found.parameters and is_settings(found.parameters) else None
        return _marked(copy, text, max_bytes=None)[0]
    except Exception:
        log.exception("the copy of a picture has not all of its marks")
        return copy


def bare_copy(content: bytes) -> bytes:
    """The same pixels with the mark of their origin and nothing else: no settings, no texts of other programs.

    The orientation and the colour profile stay, since the picture would look different without them.

    Raises:
        Unmarkable: the file has a C2PA manifest, which the copy would lack, or is not built as expected.
    """
    if is_signed(content):
        raise Unmarkable("it has a C2PA manifest")
    return mark_copy(_container(content)[1].without_metadata(content))


def is_signed(content: bytes) -> bool:
    """Whether the file has a C2PA manifest."""
    return _read(_container(content)[1], content).is_signed


def _marked(content: bytes, text: str | None, *, max_bytes: int | None) -> tuple[bytes, bool]:
    """The file with its marks, and whether it had a C2PA manifest and is unchanged."""
    _, container = _container(content)
    found = _read(container, content)
    if found.is_signed:
        log.info("the picture has a C2PA manifest and stays as it is")
        return content, True
    marked = _attempted(content, lambda: _with_xmp(container, content, found), max_bytes, "an XMP mark")
    if text is not None and not found.parameters:
        before = marked
        marked = _attempted(before, lambda: container.add_parameters(before, text), max_bytes, "its settings")
    return marked, False


def _attempted(content: bytes, add: Callable[[], bytes], max_bytes: int | None, what: str) -> bytes:
    try:
        return _within(add(), content, max_bytes, what)
    except Unmarkable as error:
        log.warning("the picture has not got %s: %s", what, error)
        return content


def _within(marked: bytes, content: bytes, max_bytes: int | None, what: str) -> bytes:
    if max_bytes is not None and len(marked) > max_bytes and marked is not content:
        log.warning("the picture has not got %s: it would have %d bytes, more than %d", what, len(marked), max_bytes)
        return content
    return marked


def _with_xmp(container: MarkContainer, content: bytes, found: Found) -> bytes:
    if found.xmp is None:
        return container.add_xmp(content, xmp.PACKET, replaces=False)
    merged = xmp.merged(found.xmp, container.max_xmp_bytes)
    if merged is None:  # malformed or too large: it stays there, beside ours
        return container.add_xmp(content, xmp.PACKET, replaces=False)
    return content if merged == found.xmp else container.add_xmp(content, merged, replaces=True)


def _read(container: MarkContainer, content: bytes) -> Found:
    found = container.read(content)
    names_manifest = found.xmp is not None and xmp.names_manifest(found.xmp)
    return Found(found.is_signed or names_manifest, found.xmp, found.parameters)


def _container(content: bytes) -> tuple[Format, MarkContainer]:
    if content.startswith(png.SIGNATURE):
        return Format.PNG, cast("MarkContainer", png)
    if content.startswith(jpeg.SIGNATURE):
        return Format.JPEG, cast("MarkContainer", jpeg)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return Format.WEBP, cast("MarkContainer", webp)
    raise Unmarkable(f"no picture begins with {content[:12]!r}")
