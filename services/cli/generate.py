"""`darkroom generate`: images from a running server, written to files."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from services.cli.console import USAGE_ERROR, CommandFailed, add_command, load_settings

if TYPE_CHECKING:
    from services.cli.console import Subparsers

_SIDE = "64 to 2048, a multiple of 8; a model may allow less"
REQUEST_FIELDS = (
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
OUTPUT_HELP = (
    "file to write; .png, .jpg or .webp sets the format, - writes to stdout (default: <id>.<ext> here); "
    "several get -0, -1, ... before the extension"
)


def add_parsers(commands: Subparsers) -> None:
    parser = add_command(commands, "generate", "generate images on a running server and write them to files", _generate)
    parser.add_argument("prompt", help="what the image shows")
    parser.add_argument("--url", help="URL of the server (default: from API_HOST and API_PORT)")
    parser.add_argument("-o", "--output", metavar="FILE", help=OUTPUT_HELP)
    parser.add_argument("--negative-prompt", default="", metavar="TEXT", help="what the image must not show")
    parser.add_argument("--model", metavar="NAME", help="id of a model of the server (default: sdxl)")
    parser.add_argument("--sampler", metavar="NAME", help="a sampler of the model (default: Euler)")
    parser.add_argument("--width", type=int, metavar="PIXELS", help=f"{_SIDE} (default: 1024)")
    parser.add_argument("--height", type=int, metavar="PIXELS", help=f"{_SIDE} (default: 1024)")
    parser.add_argument("--steps", type=int, metavar="N", help="1 to 150; a model may allow fewer (default: 30)")
    parser.add_argument("--cfg-scale", type=float, metavar="N", help="0 to 30 (default: 7.5)")
    parser.add_argument("--seed", type=int, metavar="N", help="0 to 4294967295; repeats an image (default: random)")
    parser.add_argument("--hires-fix", action="store_true", help="generate at a small size, then enlarge")
    parser.add_argument("--num-images", type=int, metavar="N", help="1 to 10 images with successive seeds (default: 1)")
    parser.add_argument("--token", help="bearer token, if the server requires one (default: DARKROOM_TOKEN)")


def _generate(arguments: argparse.Namespace) -> int:
    from services.cli import generation_client, output_file

    settings = load_settings()
    request = {"prompt": arguments.prompt, **{name: getattr(arguments, name) for name in REQUEST_FIELDS}}
    return generation_client.run(
        url=checked_url(arguments.url or local_url(settings.api_host, settings.api_port)),
        request={name: value for name, value in request.items() if value is not None},
        output=output_file.parse(arguments.output),
        token=checked_token(arguments.token or settings.darkroom_token),
    )


def local_url(host: str, port: int) -> str:
    """The URL of a server on this machine that listens on `host`, which may be all addresses."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # it is compared, not listened on
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def checked_url(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        is_complete = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_complete = False
    if not is_complete or parts.query or parts.fragment:
        raise CommandFailed(f"--url must be http://host:port or https://host/path/, not {url!r}", status=USAGE_ERROR)
    if parts.username is not None:
        raise CommandFailed("--url must not hold a user or a password; use --token", status=USAGE_ERROR)
    return url


def checked_token(token: str | None) -> str | None:
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise CommandFailed("--token must consist of visible ASCII characters, without spaces", status=USAGE_ERROR)
    return token
