"""Odd pictures and odd answers of an inference service, by name, for tests and for the chaos run.

`SOUND` decode to the pixels of `gradient()`, whatever their metadata say. `BAD` do not decode, or are animations.
"""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

from PIL import Image, ImageCms

SIZE = (64, 48)
PNG = b"\x89PNG\r\n\x1a\n"
MB = 1_000_000
SEGMENT = 60_000  # bytes; about the most that one segment of a JPEG holds


def gradient(size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


def encoded(image_format: str = "PNG", picture: Image.Image | None = None, **options) -> bytes:
    out = BytesIO()
    (picture or gradient()).save(out, image_format, **options)
    return out.getvalue()


def png_chunk(kind: bytes, data: bytes, *, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png_with(*chunks: bytes, png: bytes | None = None) -> bytes:
    """The PNG with these chunks behind its header."""
    png = encoded() if png is None else png
    return png[:33] + b"".join(chunks) + png[33:]


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    jpeg = encoded("JPEG")
    inserted = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments)
    return jpeg[:2] + inserted + jpeg[2:]


def webp_with(*chunks: tuple[bytes, bytes], flags: int = 0x2C) -> bytes:
    """A WEBP in the extended format, with these chunks behind its pixels."""
    simple = encoded("WEBP", lossless=True)
    canvas = b"".join((side - 1).to_bytes(3, "little") for side in SIZE)
    extended = b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + canvas
    added = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    body = b"WEBP" + extended + simple[12:] + added
    return b"RIFF" + struct.pack("<I", len(body)) + body


def exif(orientation: object = 1, *, kind: int = 3, count: int = 1, entries: int = 1, directory: int = 8) -> bytes:
    """A TIFF structure whose first directory holds one orientation."""
    value = struct.pack("<HH", orientation, 0) if isinstance(orientation, int) else b"\xff\xff\xff\xff"
    return b"II*\0" + struct.pack("<IHHHI", directory, entries, 0x0112, kind, count) + value + bytes(4)


def packed(content: bytes) -> bytes:
    return zlib.compress(content, 9)


def _absurd_exif() -> bytes:
    """A rational whose value lies outside, a text of 4 GB, a directory that is its own next one."""
    fields = [(0x0112, 5, 1, 2**31), (0x010E, 2, 2**32 - 1, 4), (0x0131, 7, 2**20, 0), (0x8769, 4, 1, 8)]
    entries = b"".join(struct.pack("<HHII", *field) for field in fields)
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + struct.pack("<I", 8)


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


_EXIFS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no tiff": lambda: b"GIF89a" * 10,
    "absurd": _absurd_exif,
    "rational orientation": lambda: exif("outside", kind=5),
    "orientation 0": lambda: exif(0),
    "orientation 65535": lambda: exif(65535),
    "many orientations": lambda: exif(6, count=2**32 - 1),
    "directory beyond the end": lambda: exif(6, directory=2**32 - 1),
    "65535 entries": lambda: exif(1, entries=65535),
}


def _with_each_exif(image_format: str, make: Callable[[bytes], bytes]) -> dict[str, Callable[[], bytes]]:
    def made(exif_data: Callable[[], bytes]) -> Callable[[], bytes]:
        return lambda: make(exif_data())

    return {f"{image_format}, exif: {name}": made(data) for name, data in _EXIFS.items()}


SOUND: dict[str, Callable[[], bytes]] = {
    "png": encoded,
    "png, profile that is not zlib": lambda: png_with(png_chunk(b"iCCP", b"x\0\0not zlib")),
    "png, profile of 300 MB": lambda: png_with(png_chunk(b"iCCP", b"x\0\0" + packed(bytes(300 * MB)))),
    "png, profile of another method": lambda: png_with(png_chunk(b"iCCP", b"x\0\7" + packed(srgb()))),
    "png, profile without a name": lambda: png_with(png_chunk(b"iCCP", b"x" * 100)),
    "png, empty profile": lambda: png_with(png_chunk(b"iCCP", b"")),
    "png, profile that is noise": lambda: png_with(png_chunk(b"iCCP", b"x\0\0" + packed(bytes(range(256)) * 9))),
    "png, text of 300 MB": lambda: png_with(png_chunk(b"zTXt", b"Comment\0\0" + packed(bytes(300 * MB)))),
    "png, text of another method": lambda: png_with(png_chunk(b"zTXt", b"Comment\0\7" + packed(b"text"))),
    "png, 80 texts of 1 MB": lambda: png_with(*[png_chunk(b"zTXt", b"C\0\0" + packed(bytes(MB)))] * 80),
    "png, international text of 300 MB": lambda: png_with(
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed(bytes(300 * MB)))
    ),
    "png, text without an end": lambda: png_with(png_chunk(b"tEXt", b"\xff" * 100)),
    "png, raw profile in a text": lambda: png_with(png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  99\nzz")),
    "png, wrong checksum of a text": lambda: png_with(png_chunk(b"tEXt", b"Comment\0hello", crc=0)),
    "png, wrong checksum of a profile": lambda: png_with(png_chunk(b"iCCP", b"x\0\0" + packed(srgb()), crc=0)),
    "png, short gamma": lambda: png_with(png_chunk(b"gAMA", b"\0")),
    "png, short chromaticities": lambda: png_with(png_chunk(b"cHRM", b"\0" * 5)),
    "png, short size of a pixel": lambda: png_with(png_chunk(b"pHYs", b"\0")),
    "png, empty rendering intent": lambda: png_with(png_chunk(b"sRGB", b"")),
    "png, short transparency": lambda: png_with(png_chunk(b"tRNS", b"\0")),
    "png, animation without frames": lambda: png_with(png_chunk(b"acTL", b"\0\0\0\5\0\0\0\0")),
    "png, short animation": lambda: png_with(png_chunk(b"acTL", b"\0\0")),
    "png, unknown chunks": lambda: png_with(*[png_chunk(b"crAp", b"x")] * 1000),
    "jpeg": lambda: encoded("JPEG"),
    "jpeg, part 3 of 2 of a profile": lambda: jpeg_with((0xE2, b"ICC_PROFILE\0\3\2" + b"x" * 99)),
    "jpeg, part 0 of 0 of a profile": lambda: jpeg_with((0xE2, b"ICC_PROFILE\0\0\0" + b"x" * 99)),
    "jpeg, profile without a number": lambda: jpeg_with((0xE2, b"ICC_PROFILE\0")),
    "jpeg, 200 profiles": lambda: jpeg_with(
        *[(0xE2, b"ICC_PROFILE\0" + bytes([n, 200]) + b"x" * SEGMENT) for n in range(1, 201)]
    ),
    "jpeg, multi-picture format": lambda: jpeg_with((0xE2, b"MPF\0II*\0" + bytes(100))),
    "jpeg, Photoshop resources": lambda: jpeg_with((0xED, b"Photoshop 3.0\08BIM\x03\xed\xff\xff\xff\xff\xff\xff")),
    "jpeg, short JFIF": lambda: jpeg_with((0xE0, b"JFIF\0")),
    "jpeg, short Adobe": lambda: jpeg_with((0xEE, b"Adobe")),
    "jpeg, comment of 64 kB": lambda: jpeg_with(*[(0xFE, b"\xff" * 65_000)] * 20),
    "webp": lambda: encoded("WEBP", lossless=True),
    "webp, profile that is noise": lambda: webp_with((b"ICCP", bytes(range(256)) * 9)),
    "webp, flags of metadata that it does not have": webp_with,
    "webp, metadata that is no text": lambda: webp_with((b"XMP ", b"<x:xmpmeta" + b"\xff" * 1000)),
    **_with_each_exif("png", lambda data: png_with(png_chunk(b"eXIf", data))),
    **_with_each_exif("jpeg", lambda data: jpeg_with((0xE1, b"Exif\0\0" + data))),
    **_with_each_exif("webp", lambda data: webp_with((b"EXIF", data))),
}


def _animation(image_format: str) -> bytes:
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue")]
    return encoded(image_format, frames[0], save_all=True, append_images=frames[1:])


BAD: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "html": lambda: b"<html>busy</html>",
    "gif": lambda: encoded("GIF"),
    "svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "png, only a signature": lambda: PNG,
    "png, header only": lambda: encoded()[:33],
    "png, cut": lambda: encoded()[:-60],
    "png, wrong checksum of the pixels": lambda: encoded()[:60] + bytes([encoded()[60] ^ 255]) + encoded()[61:],
    "png, animated": lambda: _animation("PNG"),
    "jpeg, cut": lambda: encoded("JPEG")[:500],
    "jpeg, no scan": lambda: jpeg_with((0xE1, b"Exif\0\0" + exif()))[:200],
    "webp, cut": lambda: encoded("WEBP")[:100],
    "webp, extended and cut": lambda: webp_with()[:60],
    "webp, animated": lambda: _animation("WEBP"),
}

# texts in the error of a service, and values of its `Retry-After`: none may do more than be shown, or be ignored
ODD_TEXTS = [
    '{"detail": "half of a pair: \\ud800"}',
    '{"detail": "\\u202egnp.exe \\u0000\\r\\nINFO forged line"}',
    '{"detail": {"message": ["not a text"]}}',
    '{"detail": "' + "x" * 15_000 + '"}',
    "[" * 5_000,
    "\x1b[2J\x1b]0;title\x07",
    '{"detail": 1e999}',
    "",
]
ODD_DATES = [
    "Fri, 31 Dec 9999999999999999999 23:59:59 GMT",
    "Fri, 31 Dec 99999 23:59:59 GMT",
    "Thu, 01 Jan 1970 00:00:00 -9999",
    "9" * 5_000,
    "-1",
    "1e309",
    "soon",
    "",
]
