"""`darkroom settings`: a table of all settings."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from services.cli.console import add_command

if TYPE_CHECKING:
    from services.cli.console import Subparsers


def add_parsers(commands: Subparsers) -> None:
    add_command(commands, "settings", "print a table of all settings", _print_table)


def _print_table(_arguments: argparse.Namespace) -> int:
    from common.runtime.settings import settings_table

    print(settings_table(), end="")
    return 0
