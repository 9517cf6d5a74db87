"""`darkroom delete`: images deleted with their files."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from services.cli import server
from services.cli.console import add_command
from services.cli.images import options

if TYPE_CHECKING:
    from darkroom_client import Darkroom
    from services.cli.console import Subparsers


def add_parsers(commands: Subparsers) -> None:
    parser = add_command(commands, "delete", "delete images with their files; an unfinished one is cancelled", _delete)
    options.add_ids(parser)
    parser.add_argument("--batch", action="store_true", help="delete all images of the batch of each image")
    options.add_json(parser, "print one line of JSON for each image: its `id` with `deleted`, or with `error`")
    server.add_options(parser)


def _delete(arguments: argparse.Namespace) -> int:
    from services.cli.images import connection

    return connection.run(arguments, lambda darkroom: _delete_all(darkroom, arguments))


def _delete_all(darkroom: Darkroom, arguments: argparse.Namespace) -> int:
    from darkroom_client import ApiError
    from services.cli.images.failures import failure_of
    from services.cli.images.results import Results

    results = Results(as_json=arguments.as_json_lines)
    for image_id in arguments.id:
        try:
            darkroom.delete(image_id, batch=arguments.batch)
        except ApiError as error:
            results.failed(image_id, failure_of(error), name=None if len(arguments.id) == 1 else image_id)
        else:
            results.deleted(image_id)
    return results.status()
