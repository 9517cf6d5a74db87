"""What a command reports about images: names for people, lines of JSON for programs."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darkroom_client import Darkroom, HistoryItem, Image
from services.cli.console import CommandFailed, error_fields, print_json_line, print_message, printable
from services.cli.images import output_file
from services.cli.images.pictures import Pictures


@dataclass(slots=True)
class Results:
    """One line on stdout for each image that is done, and at the end the failures in one message on stderr."""

    as_json: bool
    failures: list[str] = field(default_factory=list)

    def save(
        self,
        darkroom: Darkroom,
        image: Image,
        pictures: Pictures,
        path: Path,
        *,
        name: str | None,
        gone: str | None = None,
    ) -> None:
        """Write the picture of an image and report it. `gone` is why it was deleted."""
        try:
            pictures.save(darkroom, image, path, gone=gone)
        except CommandFailed as error:
            self.failed(image.id, error, name=name, image=image)
            return
        if self.as_json:
            print_json_line({**record(image), "path": str(path)})
        elif path != output_file.STDOUT:
            sys.stdout.write(f"{path}\n")

    def listed(self, image: Image | HistoryItem) -> None:
        if self.as_json:
            print_json_line(record(image))
        else:
            sys.stdout.write(f"{_line(image)}\n")

    def deleted(self, image_id: str) -> None:
        if self.as_json:
            print_json_line({"id": image_id, "deleted": True})
        else:
            sys.stdout.write(f"{printable(image_id)}\n")

    def failed(self, image_id: str, error: CommandFailed, *, name: str | None, image: Image | None = None) -> None:
        """`name` tells the image from others of the command; None if there are no others."""
        self.failures.append(str(error) if name is None else f"{name}: {error}")
        if self.as_json:
            known = record(image) if image else {"id": image_id}
            print_json_line({**known, **error_fields(error)})

    def status(self) -> int:
        """The exit status, after the message about failures if there are some."""
        if self.failures:
            print_message("; ".join(self.failures))
        return 1 if self.failures else 0


def record(image: Image | HistoryItem) -> dict[str, Any]:
    """The fields that the server sent, under its names."""
    return image.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _line(image: Image | HistoryItem) -> str:
    created = image.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
    pinned = "  pinned" if image.pinned else ""
    size = f"{image.width} × {image.height}"
    return printable(f"{image.id}  {created}  {image.status}  {size}  {image.model_used}{pinned}  {image.prompt}")
