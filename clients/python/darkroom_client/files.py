"""The file of a picture: its name, its format, and that it is written whole."""

from __future__ import annotations

import secrets
from pathlib import Path

from darkroom_client.models import HistoryItem, Image
from darkroom_client.pictures import FORMATS, PictureFormat, Wanted


def target_of(image: Wanted, path: str | Path) -> tuple[Path, PictureFormat | None]:
    """The file for a picture, and the format that its extension names."""
    target = Path(path)
    if target.is_dir():
        if isinstance(image, Image):
            return target / image.file_name, None
        return target / f"{image.id if isinstance(image, HistoryItem) else image}.png", "png"
    return target, FORMATS.get(target.suffix.lower())


def write_file(path: Path, content: bytes) -> Path:
    """Write a whole file or none: it is replaced when all bytes are there."""
    beside = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with beside.open("xb") as file:
            file.write(content)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return path
