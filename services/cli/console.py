"""The parts that all subcommands share: parsers, settings, messages on stderr.

Like each module that `main` imports, it imports nothing heavy at the top, so that `--help` stays fast.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.runtime.settings import Settings

Run = Callable[[argparse.Namespace], int]
if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # it has no public name

MAX_TEXT = 2000  # characters of one message: the largest texts of a Darkroom server have half of it
USAGE_ERROR = 2  # the exit status for wrong arguments and wrong settings
INTERRUPTED = 130  # the exit status after Ctrl-C: 128 + SIGINT, as in shells


class CommandFailed(Exception):
    """Ends the command with this message and exit status; `code` is that of the error behind it, if it has one."""

    def __init__(self, message: str, *, status: int = 1, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def add_command(commands: Subparsers, name: str, summary: str, run: Run) -> argparse.ArgumentParser:
    """Add the parser of a subcommand; `run` gets the parsed arguments and returns the exit status."""
    parser = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    parser.set_defaults(run=run)
    return parser


def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        CommandFailed: a setting is wrong.
    """
    from common.domain.errors import Misconfigured
    from common.runtime.reading_settings import process_settings

    try:
        return process_settings()
    except Misconfigured as error:
        raise CommandFailed(error.detail, status=USAGE_ERROR, code=error.code) from error


def parse_age(text: str | None, *, option: str) -> float | None:
    """The seconds of an age such as `7d`; None without one.

    Raises:
        CommandFailed: the text is not an age.
    """
    from common.runtime.setting_types import MAX_AGE_S, parse_duration

    try:
        age_s: float | None = parse_duration(text)
    except ValueError as error:
        raise CommandFailed(f"{option}: {error}", status=USAGE_ERROR) from error
    if age_s is not None and age_s > MAX_AGE_S:
        raise CommandFailed(f"{option}: must be at most {MAX_AGE_S / 86_400:g}d", status=USAGE_ERROR)
    return age_s


def error_fields(error: CommandFailed) -> dict[str, dict[str, str]]:
    """The error in a line of JSON."""
    code = error.code or ("usage" if error.status == USAGE_ERROR else "failed")
    return {"error": {"code": code, "detail": str(error).removeprefix(f"{code}: ")}}


def printable(text: str) -> str:
    """The text with control characters escaped: a text from outside must not move the cursor or hide what follows."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text[:MAX_TEXT]
    ) + ("…" if len(text) > MAX_TEXT else "")


def json_text(value: object) -> str:
    """The value as JSON for people: readable letters of all languages, but no control characters."""
    return _escaped(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: object) -> None:
    """The value as one line of JSON on stdout, for programs, at once."""
    sys.stdout.write(_escaped(json.dumps(value, ensure_ascii=False)) + "\n")
    sys.stdout.flush()


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def print_message(text: str) -> None:
    """A message for people, in one line; stdout holds results only."""
    sys.stderr.write(f"darkroom: {printable(text)}\n")


def ignore_closed_stdout() -> None:
    """The reader of stdout has ended, as `head` does: the interpreter would fail to flush what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
