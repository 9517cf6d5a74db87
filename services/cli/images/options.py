"""The options that several commands about images have."""

from __future__ import annotations

import argparse
import re
from typing import Final

OUTPUT_HELP: Final = (
    "file to write; .png, .jpg or .webp sets the format, - writes to stdout (default: <id>.<ext> here); "
    "several get -0, -1, ... before the extension"
)


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", metavar="FILE", help=OUTPUT_HELP)


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", dest="as_json_lines", help=what)


def add_ids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="+", metavar="ID", type=_image_id, help="ids of images, from `darkroom history`")


def _image_id(text: str) -> str:
    """An id becomes a part of a URL and the name of a file."""
    if re.fullmatch("[0-9A-Za-z][0-9A-Za-z-]{0,63}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no id of an image")
    return text
