"""`darkroom generate`: one image from a running server, written to a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.console import add_command, load_settings

if TYPE_CHECKING:
    from services.cli.console import Subparsers

REQUEST_FIELDS = ("negative_prompt", "model", "sampler", "width", "height", "steps", "cfg_scale", "seed")


def add_parsers(commands: Subparsers) -> None:
    parser = add_command(
        commands, "generate", "generate one image on a running server and write it to a file", _generate
    )
    parser.add_argument("prompt", help="what the image shows")
    parser.add_argument("--url", help="URL of the server (default: from API_HOST and API_PORT)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="file to write (default: <id>.<ext> here)")
    parser.add_argument("--negative-prompt", default="", metavar="TEXT", help="what the image must not show")
    parser.add_argument("--model", metavar="NAME")
    parser.add_argument("--sampler", metavar="NAME")
    parser.add_argument("--width", type=int, metavar="PIXELS")
    parser.add_argument("--height", type=int, metavar="PIXELS")
    parser.add_argument("--steps", type=int, metavar="N")
    parser.add_argument("--cfg-scale", type=float, metavar="N")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same image (default: random)")
    parser.add_argument("--token", help="bearer token, if the server requires one (default: DARKROOM_TOKEN)")


def _generate(arguments: argparse.Namespace) -> int:
    from services.cli import generation_client

    settings = load_settings()
    request = {"prompt": arguments.prompt, **{name: getattr(arguments, name) for name in REQUEST_FIELDS}}
    return generation_client.run(
        url=arguments.url or f"http://{settings.api_host}:{settings.api_port}",
        request={name: value for name, value in request.items() if value is not None},
        output=arguments.output,
        token=arguments.token or settings.darkroom_token,
    )
