"""The progress of images in one line of a terminal."""

from __future__ import annotations

import sys
from typing import Final

from darkroom_client import Deleted, Handle, Image, NoAnswer, OneImageEvent, Progress
from services.cli.images.failures import failure_of

BAR_WIDTH: Final = 30  # characters


def wait(handle: Handle) -> dict[str, str]:
    """Show the progress until all images have ended; returns why those that were deleted have no picture.

    Raises:
        CommandFailed: the server has not answered for long.
    """
    gone: dict[str, str] = {}
    bar = _Bar()
    bar.draw(handle.images)
    try:
        for event in handle.events():
            if isinstance(event, Deleted):
                gone[event.image_id] = event.reason
            bar.draw(handle.images, event, ended=len(gone))
    except NoAnswer as error:
        raise failure_of(error, f"; the image may still be painted: {handle.url}") from error
    finally:
        end_line()
    return gone


class _Bar:
    """The progress of all images of a request. Where stderr is no terminal, nothing is written."""

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


def end_line() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\n")
