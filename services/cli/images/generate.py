"""`darkroom generate`: images from a running server, written to files."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from services.cli import server
from services.cli.console import add_command
from services.cli.images import options

if TYPE_CHECKING:
    from darkroom_client import Darkroom, Handle
    from services.cli.console import Subparsers
    from services.cli.images.pictures import Pictures
    from services.cli.images.results import Results

_SIDE: Final = "64 to 2048, a multiple of 8; a model may allow less"
REQUEST_FIELDS: Final = (
    "negative_prompt",
    "model",
    "sampler",
    "width",
    "height",
    "steps",
    "cfg_scale",
    "seed",
    "num_images",
    "hires_fix",
)


def add_parsers(commands: Subparsers) -> None:
    parser = add_command(commands, "generate", "generate images on a running server and write them to files", _generate)
    parser.add_argument("prompt", help="what the image shows")
    options.add_output(parser)
    parser.add_argument(
        *("-n", "--num-images"),
        type=int,
        choices=range(1, 11),
        metavar="N",
        help="1 to 10 images with successive seeds (default: 1)",
    )
    parser.add_argument("--negative-prompt", default="", metavar="TEXT", help="what the image must not show")
    parser.add_argument("--model", metavar="NAME", help="id of a model of the server (default: sdxl)")
    parser.add_argument("--sampler", metavar="NAME", help="a sampler of the model (default: Euler)")
    parser.add_argument("--width", type=int, metavar="PIXELS", help=f"{_SIDE} (default: 1024)")
    parser.add_argument("--height", type=int, metavar="PIXELS", help=f"{_SIDE} (default: 1024)")
    parser.add_argument("--steps", type=int, metavar="N", help="1 to 150; a model may allow fewer (default: 30)")
    parser.add_argument("--cfg-scale", type=float, metavar="N", help="0 to 30 (default: 7.5)")
    parser.add_argument("--seed", type=int, metavar="N", help="0 to 4294967295; repeats an image (default: random)")
    parser.add_argument("--hires-fix", action="store_true", help="generate at a small size, then enlarge")
    options.add_json(parser, "print one line of JSON for each image: its record with `path`, or with `error`")
    server.add_options(parser)


def _generate(arguments: argparse.Namespace) -> int:
    from services.cli.images import connection
    from services.cli.images.pictures import Pictures

    fields = {"prompt": arguments.prompt, **{name: getattr(arguments, name) for name in REQUEST_FIELDS}}
    request = {name: value for name, value in fields.items() if value is not None}
    pictures = Pictures.of(arguments.output, arguments.num_images or 1, as_json=arguments.as_json_lines)
    return connection.run(
        arguments,
        lambda darkroom: _order(darkroom, request, pictures, as_json=arguments.as_json_lines),
        on_interrupt="stopped waiting; a request that was sent is not cancelled",
    )


def _order(darkroom: Darkroom, request: dict[str, Any], pictures: Pictures, *, as_json: bool) -> int:
    from services.cli.images.results import Results

    results = Results(as_json=as_json)
    with pictures.reserved():
        handle = darkroom.submit(**request)
        _save_all(darkroom, handle, pictures, results)
    return results.status()


def _save_all(darkroom: Darkroom, handle: Handle, pictures: Pictures, results: Results) -> None:
    """Wait until all images have ended, and write those that are completed."""
    from services.cli.images.progress import wait

    gone = wait(handle)
    pictures = replace(pictures, count=len(handle.images))
    first, is_one = handle.images[0], len(handle.images) == 1
    for index, image in enumerate(handle.images):
        path = pictures.path(image, index, named_after=first.id)
        name = None if is_one else f"image {index}"
        results.save(darkroom, image, pictures, path, name=name, gone=gone.get(image.id))
