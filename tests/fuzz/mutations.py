"""Seeded mutations of encoded pictures: bits flipped, bytes cut or copied, metadata made up."""

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache

from tests.odd_answers import chunk, drawn

SIZE = (48, 32)
MODES = [
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
]
METADATA = [b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"bKGD", b"sBIT",
            b"hIST", b"sPLT", b"oFFs", b"xxXx"]  # fmt: skip


@cache
def valid(image_format: str, mode: str) -> bytes:
    return drawn(SIZE, image_format, mode)


def mutants(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Each with a name, from which `mutant` makes it again."""
    for number in range(count):
        name = f"{seed}/{number}"
        yield name, mutant(name)


def mutant(name: str) -> bytes:
    dice = random.Random(name)
    content = bytearray(valid(*dice.choice(MODES)))
    for _ in range(dice.choice([1, 1, 1, 2, 3, 8])):
        dice.choice(CHANGES)(content, dice)
    return with_checksums(bytes(content)) if dice.random() < 0.7 else bytes(content)


def with_checksums(content: bytes) -> bytes:
    """A PNG with right checksums, so that a changed chunk is read and not only refused."""
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        return content
    found, at = content[:8], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(content):
            break
        found += content[at:end] + struct.pack(">I", zlib.crc32(content[at + 4 : end]))
        at = end + 4
    return found + content[at:]


def with_random_metadata(name: str) -> bytes:
    """A sound PNG with one to five chunks of metadata that hold anything."""
    dice = random.Random(name)
    png = valid("PNG", dice.choice(["L", "RGB", "RGBA"]))
    chunks = b"".join(chunk(dice.choice(METADATA), made_up(dice)) for _ in range(dice.randint(1, 5)))
    at = 33 if dice.random() < 0.6 else len(png) - 12  # behind IHDR or before IEND
    return png[:at] + chunks + png[at:]


def made_up(dice: random.Random) -> bytes:
    """The content of a chunk: noise, a keyword with packed or unpacked data, or a directory of EXIF."""
    noise = dice.randbytes(dice.choice([0, 1, 4, 9, 32, 60]))
    match dice.randrange(5):
        case 0:
            return noise
        case 1:
            return b"Comment\0" + noise
        case 2:
            return b"Comment\0\0" + zlib.compress(noise * 100)
        case 3:
            return b"Comment\0\1\0en\0\0" + noise
        case _:
            return b"II*\0\x08\0\0\0" + struct.pack("<H", dice.randrange(4)) + noise


def _flip(content: bytearray, dice: random.Random) -> None:
    if content:
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def _flip_early(content: bytearray, dice: random.Random) -> None:
    """In the head, where sizes, depths and kinds are."""
    if content:
        content[dice.randrange(min(64, len(content)))] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])


def _cut(content: bytearray, dice: random.Random) -> None:
    del content[dice.randrange(len(content) + 1) :]


def _remove(content: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(content) + 1)
    del content[start : start + dice.choice([1, 2, 4, 12, 100])]


def _repeat(content: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(content) + 1)
    content[start:start] = content[start : start + dice.choice([1, 4, 12, 100])]


def _number(content: bytearray, dice: random.Random) -> None:
    """Write an extreme number over four bytes."""
    start = dice.randrange(max(1, len(content) - 4))
    number = dice.choice([0, 1, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1])
    content[start : start + 4] = number.to_bytes(4, dice.choice(["big", "little"]))


def _insert_chunk(content: bytearray, dice: random.Random) -> None:
    """Chunks between those of a PNG; noise inside the other formats."""
    at = 33 if content[:4] == b"\x89PNG" else dice.randrange(len(content) + 1)
    content[at:at] = chunk(dice.choice([*METADATA, b"tRNS", b"PLTE", b"acTL", b"fcTL", b"IDAT"]), made_up(dice))


CHANGES: list[Callable[[bytearray, random.Random], None]] = [
    _flip,
    _flip_early,
    _cut,
    _remove,
    _repeat,
    _number,
    _insert_chunk,
]
