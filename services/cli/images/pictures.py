"""The files of pictures that a command writes, one for each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from darkroom_client import Darkroom, DarkroomError, Image
from services.cli.console import USAGE_ERROR, CommandFailed
from services.cli.images import output_file
from services.cli.images.failures import failure_of


@dataclass(frozen=True, slots=True)
class Pictures:
    """The files of `count` images. Without `output` their names are made of ids."""

    output: Path | None
    count: int

    @classmethod
    def of(cls, text: str | None, count: int, *, as_json: bool) -> Pictures:
        """The files of the option `-o`.

        Raises:
            CommandFailed: `-o` cannot be the name, or stdout would hold more than one picture.
        """
        output = output_file.parse(text)
        if output == output_file.STDOUT and count > 1:
            raise CommandFailed("-o -: stdout holds one picture; use a file name for several", status=USAGE_ERROR)
        if output == output_file.STDOUT and as_json:
            raise CommandFailed("-o -: stdout holds the picture or --json, not both", status=USAGE_ERROR)
        return cls(output, count)

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Hold the names of all files.

        Raises:
            CommandFailed: one of them cannot be written.
        """
        output = self.output
        names: Sequence[Path | None] = [output]
        if output is not None and self.count > 1:
            names = [_numbered(output, index) for index in range(self.count)]
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(output_file.reserved(name))
            yield

    def path(self, image: Image, index: int, *, named_after: str | None = None) -> Path:
        """The file of the image with this index. Without `-o` it has the id of the image, or `named_after`."""
        if self.output is None and named_after is None:
            return Path(image.file_name)
        path = self.output or Path(named_after or "").with_suffix(Path(image.file_name).suffix)
        return path if self.count <= 1 else _numbered(path, index)

    def save(self, darkroom: Darkroom, image: Image, path: Path, *, gone: str | None = None) -> None:
        """Write the picture of the image; `gone` is why it was deleted.

        Raises:
            CommandFailed: there is no picture, or it cannot be downloaded or written.
        """
        if gone is not None:
            raise CommandFailed(gone, code="deleted")
        if not image.is_completed or image.image_url is None:
            if image.error:
                raise CommandFailed(f"{image.error.code}: {image.error.detail}", code=image.error.code)
            raise CommandFailed(f"{image.status}: there is no picture", code=image.status)
        try:
            content = darkroom.download(image, format=output_file.format_of(self.output))
        except DarkroomError as error:
            raise failure_of(error) from error
        try:
            output_file.write(path, content)
        except CommandFailed as error:
            raise CommandFailed(f"{error}; the image is at {image.image_url}", code=error.code) from error


def _numbered(path: Path, index: int) -> Path:
    """`a-2.png` for `a.png`: the name of one of several files."""
    return path.with_name(f"{path.stem}-{index}{path.suffix}")
