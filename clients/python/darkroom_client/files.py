"""The file of a picture: its name, its format, and that it is written whole."""

from __future__ import annotations

import secrets
from pathlib import Path

from darkroom_client.errors import Misconfigured
from darkroom_client.models import HistoryItem, Image
from darkroom_client.pictures import FORMATS, PictureFormat, Wanted


def target_of(image: Wanted, path: str | Path) -> tuple[Path, PictureFormat | None]:
    """The file for a picture, and the format that its extension names; None if it has none: the file as it is stored.

    Raises:
        Misconfigured: the extension is that of another format.
    """
    target = Path(path)
    if target.is_dir():
        if isinstance(image, Image):
            return target / image.file_name, None
        return target / f"{image.id if isinstance(image, HistoryItem) else image}.png", "png"
    wanted = FORMATS.get(target.suffix.lower())
    if wanted is None and target.suffix[1:].isalpha():  # `.2` in `picture.2` is no format
        raise Misconfigured(f"{target.name}: {target.suffix} is not supported; use .png, .jpg or .webp")
    return target, wanted


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
