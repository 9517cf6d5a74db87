"""`darkroom get`: pictures of images that were requested before, written to files."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from services.cli import server
from services.cli.console import USAGE_ERROR, CommandFailed, add_command
from services.cli.images import options

if TYPE_CHECKING:
    from darkroom_client import Darkroom, Image
    from services.cli.console import Subparsers
    from services.cli.images.pictures import Pictures


def add_parsers(commands: Subparsers) -> None:
    parser = add_command(commands, "get", "write the pictures of images to files", _get)
    options.add_ids(parser)
    options.add_output(parser)
    parser.add_argument("--wait", action="store_true", help="wait until the images have ended")
    parser.add_argument("--no-picture", action="store_true", help="write no file; print what is known of the images")
    options.add_json(parser, "print one line of JSON for each image: its record with `path`, or with `error`")
    server.add_options(parser)


def _get(arguments: argparse.Namespace) -> int:
    from services.cli.images import connection
    from services.cli.images.pictures import Pictures

    if arguments.no_picture and arguments.output is not None:
        raise CommandFailed("-o: names no file with --no-picture", status=USAGE_ERROR)
    pictures = Pictures.of(arguments.output, len(arguments.id), as_json=arguments.as_json_lines)
    return connection.run(arguments, lambda darkroom: _get_all(darkroom, arguments, pictures))


def _get_all(darkroom: Darkroom, arguments: argparse.Namespace, pictures: Pictures) -> int:
    from contextlib import nullcontext

    from services.cli.images.results import Results

    results = Results(as_json=arguments.as_json_lines)
    with nullcontext() if arguments.no_picture else pictures.reserved():
        for index, image_id in enumerate(arguments.id):
            name = None if len(arguments.id) == 1 else image_id
            try:
                image = _image(darkroom, image_id, is_waited_for=arguments.wait)
            except CommandFailed as error:
                results.failed(image_id, error, name=name)
                continue
            if arguments.no_picture:
                results.listed(image)
            else:
                results.save(darkroom, image, pictures, pictures.path(image, index), name=name)
    return results.status()


def _image(darkroom: Darkroom, image_id: str, *, is_waited_for: bool) -> Image:
    """
    Raises:
        CommandFailed: there is no such image, or it was deleted.
    """
    from darkroom_client import ApiError
    from services.cli.images.failures import failure_of
    from services.cli.images.progress import wait

    try:
        handle = darkroom.handle(image_id)
    except ApiError as error:
        raise failure_of(error) from error
    gone = wait(handle) if is_waited_for and not handle.images[0].is_final else {}
    if gone:
        raise CommandFailed(next(iter(gone.values())), code="deleted")
    return handle.images[0]
