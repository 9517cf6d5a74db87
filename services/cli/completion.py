"""`darkroom completion`: the script by which a shell completes the command, made from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from services.cli.console import add_command

if TYPE_CHECKING:
    from services.cli.console import Subparsers

_SHELLS = ("bash", "zsh")
_FILE = "FILE"  # the placeholder of arguments that name a file
# For an argument without values zsh shows a message, and because of it does not complete `--opt` that stands there.
_NOTHING = {"zsh": "()"}


def add_parsers(commands: Subparsers) -> None:
    parser = add_command(commands, "completion", "print a script that completes this command in a shell", _completion)
    parser.add_argument("shell", choices=_SHELLS, help="docs/cli.md says where to put the script")


def _completion(arguments: argparse.Namespace) -> int:
    import shtab

    from services.cli.main import make_parser

    parser = make_parser()
    for action in _actions(parser):
        if action.metavar == _FILE:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads this attribute
        elif not action.option_strings and not action.choices:
            action.complete = _NOTHING  # type: ignore[attr-defined]
    print(shtab.complete(parser, arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of the command and of its subcommands."""
    for action in parser._actions:  # noqa: SLF001  # argparse shows them nowhere else
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # it has no public name
            for subparser in action.choices.values():
                yield from _actions(subparser)
