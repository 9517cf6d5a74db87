"""`darkroom settings`: a table of all settings."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from services.cli.console import add_command

if TYPE_CHECKING:
    from services.cli.console import Subparsers


def add_parsers(commands: Subparsers) -> None:
    add_command(commands, "settings", "print a table of all settings", _print_table)


def settings_table() -> str:
    """All settings as a Markdown table, for the documentation."""
    from common.runtime.settings import Settings

    rows = ["| setting | default | what it does |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(f"{part:g}" for part in default)
        shown = "" if default in {None, ""} else f"`{default}`"
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


def _print_table(_arguments: argparse.Namespace) -> int:
    print(settings_table(), end="")
    return 0
