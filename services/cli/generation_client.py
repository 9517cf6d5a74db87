"""The images of one request from a running server, from the request to the files.

order ─▶ events, or GET every 2 s where a proxy lets no websocket through ─▶ GET each picture ─▶ its file
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from darkroom_client import (
    ConnectionBroken,
    Darkroom,
    DarkroomError,
    Deleted,
    Handle,
    Image,
    LimitReached,
    Misconfigured,
    NoAnswer,
    OneImageEvent,
    Progress,
    Redirected,
    Retries,
    TlsFailed,
    UnexpectedAnswer,
    Unreachable,
)
from darkroom_client.pictures import PictureFormat
from services.cli import output_file
from services.cli.console import USAGE_ERROR, CommandFailed, print_message

BAR_WIDTH: Final = 30  # characters
POLL_S: Final = 2.0  # without an event for this long the record is read: an event may be missed, the record counts
PATIENCE_S: Final = 60.0  # without any answer while the image is waited for: a server restarts in less
REPEATS_S: Final = (1.0, 3.0, 6.0)  # before the same request is sent again, with the same key
HANDSHAKE_S: Final = 10.0  # then the websocket does without


def run(*, url: str, request: dict[str, Any], output: Path | None, token: str | None) -> int:
    """Write the files, print their paths and return 0.

    Raises:
        CommandFailed: with the reason; of several images, those that are completed are written nevertheless.
    """
    count = request.get("num_images", 1)
    if output == output_file.STDOUT and count > 1:
        raise CommandFailed("-o -: stdout holds one picture; use a file name with --num-images", status=USAGE_ERROR)
    names = [output] if output is None or count <= 1 else [_numbered(output, index) for index in range(count)]
    try:
        with ExitStack() as reserved:
            for name in names:
                reserved.enter_context(output_file.reserved(name))
            _generate(url, request, output, token)
    except DarkroomError as error:
        raise CommandFailed(sentence(error), code=error.code) from error
    except KeyboardInterrupt:
        _end_line()
        print_message("stopped waiting; a request that was sent is not cancelled")
        return 130
    return 0


def _generate(url: str, request: dict[str, Any], output: Path | None, token: str | None) -> None:
    # a person waits in front of it: a server that is down or a limit that is reached is said at once
    retries = Retries(delays_s=REPEATS_S, jitter=0, patience_s=PATIENCE_S, never=(LimitReached, Unreachable))
    failures: list[CommandFailed] = []
    with Darkroom(
        url,
        token=token or "",
        retries=retries,
        trust_env=False,  # proxies of the environment do not count; SSL_CERT_FILE does
        handshake_s=HANDSHAKE_S,
        poll_s=POLL_S,
    ) as darkroom:
        handle = darkroom.submit(**request)
        gone = _follow(handle)
        images = handle.images
        for index, image in enumerate(images):
            number = index if len(images) > 1 else None
            try:
                path = _path(output, images[0], image, number)
                _save(darkroom, image, path, gone.get(image.id), wanted=output_file.format_of(output))
            except CommandFailed as error:
                failures.append(error if number is None else CommandFailed(f"image {index}: {error}"))
    if failures:
        raise failures[0] if len(failures) == 1 else CommandFailed("; ".join(map(str, failures)))


def _follow(handle: Handle) -> dict[str, str]:
    """Show the progress until all images have ended; returns why those that were deleted have no picture."""
    gone: dict[str, str] = {}
    bar = _Bar()
    bar.draw(handle.images)
    try:
        for event in handle.events():
            if isinstance(event, Deleted):
                gone[event.image_id] = event.reason
            bar.draw(handle.images, event, ended=len(gone))
    except NoAnswer as error:
        text = f"{sentence(error)}; the image may still be painted: {handle.url}"
        raise CommandFailed(text, code=error.code) from error
    finally:
        _end_line()
    return gone


def _save(darkroom: Darkroom, image: Image, path: Path, gone: str | None, *, wanted: PictureFormat | None) -> None:
    if gone is not None:
        raise CommandFailed(gone)
    if not image.is_completed or image.image_url is None:
        detail = f"{image.error.code}: {image.error.detail}" if image.error else f"{image.status}: there is no picture"
        raise CommandFailed(detail)
    try:
        content = darkroom.download(image, format=wanted)
    except DarkroomError as error:
        raise CommandFailed(sentence(error), code=error.code) from error
    try:
        output_file.write(path, content)
    except CommandFailed as error:
        raise CommandFailed(f"{error}; the image is at {image.image_url}") from error
    if path != output_file.STDOUT:
        sys.stdout.write(f"{path}\n")


def _path(output: Path | None, first: Image, image: Image, number: int | None) -> Path:
    if output is None:
        output = Path(first.id).with_suffix(Path(image.file_name).suffix)
    return output if number is None else _numbered(output, number)


def _numbered(path: Path, index: int) -> Path:
    """`a-2.png` for `a.png`: the name of one of several files."""
    return path.with_name(f"{path.stem}-{index}{path.suffix}")


class _Bar:
    """The progress of all images of a request, in one line of a terminal."""

    def draw(self, images: list[Image], event: OneImageEvent | None = None, *, ended: int = 0) -> None:
        if not sys.stderr.isatty():
            return
        still_open = [image for image in images if not image.is_final]
        ended += len(images) - len(still_open)
        is_over = ended == len(images)
        step, steps, label = int(is_over), 1, next((image.status for image in still_open), images[-1].status).value
        if isinstance(event, Progress):
            step, steps, label = event.step, event.steps, "painting"
        if len(images) > 1:
            label = f"{label} {min(ended + 1, len(images))} of {len(images)}"
        done = BAR_WIDTH * min(step, steps) // steps
        counted = f" {step}/{steps}" if steps > 1 else ""
        sys.stderr.write(f"\r\x1b[K{label:>10} [{'#' * done}{'.' * (BAR_WIDTH - done)}]{counted}")
        sys.stderr.flush()


def _end_line() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\n")


def sentence(error: DarkroomError) -> str:
    """The error with what to do about it."""
    match error:
        case Misconfigured(code="invalid_url") | Redirected():
            return f"{error}: correct --url"
        case UnexpectedAnswer(wanted="an image", status=status) if status < 400:
            return f"{error}: is --url the address of a Darkroom server?"
        case TlsFailed(is_certificate=True):
            return f"{error}; SSL_CERT_FILE names a file of trusted certificates"
        case Unreachable():
            return f"{error}; `darkroom up` starts one"
        case ConnectionBroken(is_other_protocol=True, url=url) if url.startswith("http:"):
            return f"{error}; does the server speak https?"
        case _:
            return str(error)
