"""The `darkroom` command: it parses the arguments and runs one subcommand."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from services.cli import backends, keys, media, operator, services, settings, webhooks
from services.cli.console import CommandFailed, Run, print_message
from services.cli.images import generate

GROUPS = (services, generate, operator, backends, media, keys, webhooks, settings)  # in the order of --help


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    run: Run = parsed.run
    try:
        return run(parsed)
    except CommandFailed as error:
        print_message(str(error))
        return error.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="darkroom",
        description="The back end of an image playground.",
        epilog="Settings are read from the environment and from .env; docs/settings.md lists them.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in GROUPS:
        group.add_parsers(commands)
    return parser
