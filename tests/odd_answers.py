"""Odd answers of an inference service, by name, for the fuzz tests and for the chaos command.

`SOUND_PICTURES` decode to the ordered pixels, whatever their metadata hold. `BAD_PICTURES` have no usable pixels.
"""

import base64
import json
import struct
import zlib
from collections.abc import Callable
from io import BytesIO

from PIL import Image

Size = tuple[int, int]
Draw = Callable[[Size], bytes]
MB = 1_000_000
_PNG_HEADER = 33  # bytes: the signature and IHDR


def drawn(size: Size, image_format: str = "PNG", mode: str = "RGB", **options) -> bytes:
    out = BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(out, image_format, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(size: Size, *chunks: bytes) -> bytes:
    """A sound PNG with these chunks between its header and its pixels."""
    png = drawn(size)
    return png[:_PNG_HEADER] + b"".join(chunks) + png[_PNG_HEADER:]


def _rational_for_text(size: Size) -> bytes:
    """EXIF whose ImageDescription and Artist hold rationals with a denominator of 0 where text belongs."""
    entries = [(tag, 5, 1, 38) for tag in (0x010E, 0x013B)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return drawn(size, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + directory + bytes(4) + struct.pack("<II", 1, 0))


def _turned(size: Size) -> bytes:
    """The pixels lie on their side, and the orientation says so: as shown, the size is as ordered."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return drawn((size[1], size[0]), "JPEG", exif=exif.tobytes())


def _header_of(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


SOUND_PICTURES: dict[str, Draw] = {
    "plain": drawn,
    "jpeg": lambda size: drawn(size, "JPEG"),
    "webp": lambda size: drawn(size, "WEBP"),
    "rational for text": _rational_for_text,
    "orientation": _turned,
    "cut EXIF": lambda size: png_with(size, chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")),
    "text of 2 MB": lambda size: png_with(size, chunk(b"tEXt", b"Comment\0" + b"x" * 2 * MB)),
    "text that unpacks to 80 MB": lambda size: png_with(
        size, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 * MB), 9))
    ),
    "3000 text chunks": lambda size: png_with(size, chunk(b"tEXt", b"Comment\0x") * 3000),
    "text that is not packed": lambda size: png_with(size, chunk(b"zTXt", b"Comment\0\0not packed")),
    "broken ICC": lambda size: png_with(size, chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"no profile"))),
    "ICC that is not packed": lambda size: png_with(size, chunk(b"iCCP", b"icc\0\0not packed")),
    "tRNS": lambda size: png_with(size, chunk(b"tRNS", bytes(6))),
    "1-bit": lambda size: drawn(size, mode="1"),
    "palette": lambda size: drawn(size, mode="P"),
    "16-bit": lambda size: drawn(size, mode="I;16"),
    "density of 0": lambda size: png_with(size, chunk(b"pHYs", bytes(8) + b"\1")),
}
BAD_PICTURES: dict[str, Draw] = {
    "other size": lambda size: drawn((size[0] + 8, size[1])),
    "truncated": lambda size: drawn(size)[:-60],
    "30,000 × 30,000": lambda _size: _header_of(30_000, 30_000),
    "0 × 0": lambda _size: _header_of(0, 0),
    "empty": lambda _size: b"",
    "HTML": lambda _size: b"<!doctype html><title>Busy</title>",
    "only a signature": lambda _size: b"\x89PNG\r\n\x1a\n",
}

TEXTS: dict[str, bytes] = {
    "lone surrogate": b'{"detail": "half of a pair: \\ud83d"}',
    "lone surrogate in an object": b'{"error": {"message": "\\udfff"}}',
    "NUL": b'{"detail": "a\\u0000b"}',
    "raw NUL": b"a\0b",
    "terminal escape": b"\x1b[2J\x1b]0;title\x07",
    "not UTF-8": b"\xff\xfe\xc3(",
    "10 MB": b"x" * 10 * MB,
    "deep JSON": b"[" * 100_000,
    "long number": b'{"detail": ' + b"9" * 10_000 + b"}",
    "detail is a list": b'{"detail": [1, 2]}',
    "right-to-left override": '{"detail": "\u202egnp.exe"}'.encode(),
    "line separators": '{"detail": "one\u2028two\x85three"}'.encode(),
    "empty": b"",
}

RETRY_AFTERS: dict[str, str] = {
    "0": "0",
    "past date": "Wed, 21 Oct 2015 07:28:00 GMT",
    "year 10^19": "Wed, 21 Oct 10000000000000000000 07:28:00 GMT",
    "year 9999": "Fri, 31 Dec 9999 23:59:59 GMT",
    "year 0": "Fri, 31 Dec 0000 23:59:59 GMT",
    "without a zone": "Wed, 21 Oct 2015 07:28:00 -0000",
    "zone of 99 hours": "Wed, 21 Oct 2015 07:28:00 +9999",
    "negative": "-5",
    "float": "1.5",
    "exponent": "1e400",
    "NaN": "nan",
    "400 digits": "9" * 400,
    "5000 digits": "9" * 5000,
    "Arabic digits": "\u0663",
    "superscript": "\u00b2",
    "not ASCII": "caf\u00e9",
    "words": "soon",
    "two values": "1, 2",
    "empty": "",
}


def stream_of(content: bytes, *, line: str = "\n", prefix: str = "", wrap: int = 0, variant: str = "") -> bytes:
    """An event stream with a progress and a picture; `variant` is the form of its base64."""
    text = base64.b64encode(content).decode()
    if variant == "URL-safe":
        text = text.replace("+", "-").replace("/", "_")
    if variant == "unpadded":
        text = text.rstrip("=")
    if variant == "data URL":
        text = f"data:image/png;base64,{text}"
    if wrap:
        text = "\n".join(text[start : start + wrap] for start in range(0, len(text), wrap))
    events = [
        ("progress", json.dumps({"step": 1, "steps": 2})),
        ("completed", json.dumps({"b64_json": text, "format": "png", "seed": 7})),
    ]
    written = [f"event: {name}{line}data: {data}{line}{line}" for name, data in events]
    return (prefix + "".join(written)).encode()


# Streams of the common forms: each holds a picture that is to be taken.
SOUND_STREAMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": stream_of,
    "CRLF": lambda content: stream_of(content, line="\r\n"),
    "CR": lambda content: stream_of(content, line="\r"),
    "BOM": lambda content: stream_of(content, prefix="\ufeff"),
    "comments": lambda content: stream_of(content, prefix=": hello\n\n"),
    "data URL": lambda content: stream_of(content, variant="data URL"),
    "wrapped base64": lambda content: stream_of(content, wrap=76),
    "URL-safe base64": lambda content: stream_of(content, variant="URL-safe"),
    "unpadded base64": lambda content: stream_of(content, variant="unpadded"),
}
BAD_STREAMS: dict[str, bytes] = {
    "ends early": b'event: progress\ndata: {"step": 1, "steps": 2}\n\n',
    "empty": b"",
    "not base64": b'event: completed\ndata: {"b64_json": "\\ud800"}\n\n',
    "no picture": b'event: completed\ndata: {"b64_json": null}\n\n',
    "not JSON": b"event: completed\ndata: {\n\n",
    "deep JSON": b"event: completed\ndata: " + b"[" * 100_000 + b"\n\n",
    "error with a surrogate": b'event: error\ndata: {"code": "\\ud800", "detail": "\\udfff"}\n\n',
    "error with objects": b'event: error\ndata: {"code": {"a": 1}, "detail": [null]}\n\n',
    "long error code": b'event: error\ndata: {"code": "' + b"x" * 100_000 + b'"}\n\n',
    "absurd progress": b'event: progress\ndata: {"step": -1e999, "steps": true}\n\n'
    b'event: progress\ndata: {"step": ' + b"9" * 4000 + b', "steps": 0}\n\n',
    "lines without end": b"data: x\n" * 10_000,
}
