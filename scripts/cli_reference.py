"""Writes the commands of docs/cli.md from the parser of `darkroom`, so that both have one source.

`make cli-docs` runs it; a test fails when the page is older than the parser.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from services.cli.main import make_parser

PAGE: Final = Path(__file__).parents[1] / "docs/cli.md"
MARKER: Final = "<!-- From here on `make cli-docs` makes this page from the parser. -->\n"


def main() -> int:
    PAGE.write_text(updated(PAGE.read_text()))
    return 0


def updated(page: str) -> str:
    """The page with the commands as they are now, after the text that is written by hand."""
    by_hand, marker, _ = page.partition(MARKER)
    if not marker:
        raise ValueError(f"{PAGE} has no line {MARKER.strip()}")
    return by_hand + MARKER + "".join(_command(make_parser()))


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The section of a command, then those of its subcommands."""
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]  # noqa: SLF001  # argparse shows them nowhere else
    groups = [action for action in actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001  # it has no public name
    rows = [action for action in actions if action not in groups and "--help" not in action.option_strings]
    usage = ["[options]"] if any(action.option_strings for action in rows) else []
    usage += [_placeholder(action) for action in actions if not action.option_strings]
    yield f"\n### {parser.prog}\n\n    {' '.join([parser.prog, *usage])}\n\n{_text(parser.description)}\n"
    if rows:
        yield "\n| argument | what it does |\n|---|---|\n"
        yield from (f"| {_names(action)} | {_text(action.help)} |\n" for action in rows)
    for group in groups:
        summaries = {choice.dest: choice.help for choice in group._choices_actions}  # noqa: SLF001  # as --help shows them
        for name, subparser in group.choices.items():
            subparser.description = subparser.description or f"{_capitalized(summaries[name])}."
            yield from _command(subparser)


def _names(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return ", ".join(f"`{name}{value}`" for name in action.option_strings) or f"`{_value(action)}`"


def _placeholder(action: argparse.Action) -> str:
    value = _value(action)
    repeated = f"{value} ..."
    required = getattr(action, "required", True)
    shapes: dict[str | int | None, str] = {"?": f"[{value}]", "*": f"[{repeated}]", "+": repeated}
    return shapes.get(action.nargs, value if required else f"[{value}]")


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _text(text: str | None) -> str:
    return (text or "").replace("%%", "%").replace("|", "\\|").replace("<", "&lt;")


def _capitalized(text: str | None) -> str:
    return f"{text[0].upper()}{text[1:]}" if text else ""


if __name__ == "__main__":
    sys.exit(main())
