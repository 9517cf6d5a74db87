"""What is in a media folder."""

from pathlib import Path


def files_in(media: Path) -> set[str]:
    """All files, by their paths below the folder; without the notes of Darkroom about it, and their temporary files."""
    found = [path for path in media.rglob("*") if path.is_file()]
    return {str(path.relative_to(media)) for path in found if not path.name.lstrip(".").startswith("darkroom-")}
