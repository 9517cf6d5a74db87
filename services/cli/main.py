"""The `darkroom` command: it parses the arguments and runs one subcommand."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from services.cli import backends, completion, keys, media, operator, services, settings, webhooks
from services.cli.console import CommandFailed, Run, error_fields, print_json_line, print_message
from services.cli.images import delete, generate, get, history

GROUPS = (
    services,
    generate,
    history,
    get,
    delete,
    operator,
    backends,
    media,
    keys,
    webhooks,
    settings,
    completion,
)  # in the order of --help


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    parsed = make_parser().parse_args(arguments)
    run: Run = parsed.run
    try:
        return run(parsed)
    except CommandFailed as error:
        if getattr(parsed, "as_json_lines", False):
            print_json_line(error_fields(error))
        print_message(str(error))
        return error.status


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="darkroom",
        description="The back end of an image playground.",
        epilog="Exit statuses: 0 done, 1 failed, 2 wrong arguments or settings, 130 stopped by Ctrl-C. "
        "Settings are read from the environment and from .env; docs/settings.md lists them.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in GROUPS:
        group.add_parsers(commands)
    return parser


class _Version(argparse.Action):
    """Reads the version only if it is asked for: that takes longer than to parse."""

    def __call__(self, parser: argparse.ArgumentParser, *_arguments: Any) -> None:
        from importlib.metadata import version

        print(f"darkroom {version('darkroom')}")
        parser.exit()
