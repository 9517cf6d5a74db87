"""Frames of the websocket protocol as a server sends texts: whole, unmasked, uncompressed (RFC 6455, section 5.2)."""

from __future__ import annotations

from typing import Final

_TEXT: Final = b"\x81"  # the last frame of a message, which is a text


def text_frame(text: str) -> bytes:
    """The bytes of a frame with this text; they are the same for all clients."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        return _TEXT + bytes([size]) + payload
    if size < 65_536:
        return _TEXT + b"\x7e" + size.to_bytes(2) + payload
    return _TEXT + b"\x7f" + size.to_bytes(8) + payload
