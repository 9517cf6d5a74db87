"""`darkroom history`: the images of the owner, searched and listed."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final

from services.cli import server
from services.cli.console import USAGE_ERROR, CommandFailed, add_command, parse_age, print_message
from services.cli.images import options

if TYPE_CHECKING:
    from darkroom_client import Darkroom
    from services.cli.console import Subparsers

_STATUSES: Final = ("completed", "failed", "cancelled", "queued", "running", "active", "all")
_MOMENT: Final = "a date (2025-01-15), a time (2025-01-15T12:00:00Z) or an age (7d, 12h)"
_PAGE: Final = 100  # the largest page that a server sends
_LIMIT: Final = 20  # as a page of the api


def add_parsers(commands: Subparsers) -> None:
    parser = add_command(commands, "history", "list or search images, newest first", _history)
    parser.add_argument("word", nargs="*", metavar="WORD", help="words of the prompt, all of which must occur")
    parser.add_argument(
        *("-n", "--limit"),
        type=int,
        default=_LIMIT,
        metavar="N",
        help=f"list N images; 0 lists all (default: {_LIMIT})",
    )
    parser.add_argument(
        "--status",
        choices=_STATUSES,
        default="completed",
        metavar="STATUS",
        help=f"{', '.join(_STATUSES)} (default: completed)",
    )
    parser.add_argument("--model", metavar="NAME", help="images of this model")
    parser.add_argument("--since", metavar="WHEN", help=f"created then or later: {_MOMENT}")
    parser.add_argument("--until", metavar="WHEN", help="created before then")
    parser.add_argument("--batch", metavar="ID", help="images of the batch with this id")
    parser.add_argument("--pinned", action="store_true", help="pinned images only")
    parser.add_argument("--oldest", action="store_true", help="list the oldest first")
    options.add_json(parser, "print one line of JSON for each image")
    server.add_options(parser)


def _history(arguments: argparse.Namespace) -> int:
    from services.cli.images import connection

    if arguments.limit < 0:
        raise CommandFailed("--limit: must be 0 or more", status=USAGE_ERROR)
    filters = {
        "status": arguments.status,
        "search": " ".join(arguments.word) or None,
        "model": arguments.model,
        "since": _moment(arguments.since, "--since"),
        "until": _moment(arguments.until, "--until"),
        "batch": arguments.batch,
        "pinned": True if arguments.pinned else None,
        "sort": "oldest" if arguments.oldest else None,
    }
    wanted = {name: value for name, value in filters.items() if value is not None}
    return connection.run(
        arguments, lambda darkroom: _list(darkroom, wanted, arguments.limit, as_json=arguments.as_json_lines)
    )


def _list(darkroom: Darkroom, filters: dict[str, Any], limit: int, *, as_json: bool) -> int:
    from itertools import islice

    from services.cli.images.results import Results

    results, count = Results(as_json=as_json), 0
    per_page = min(limit, _PAGE) if limit else _PAGE
    for image in islice(darkroom.history(per_page=per_page, **filters), limit or None):
        results.listed(image)
        count += 1
    more = ", perhaps more; -n shows them" if limit and count == limit else ""
    print_message(f"{count} {'image' if count == 1 else 'images'}{more}")
    return 0


def _moment(text: str | None, option: str) -> datetime | None:
    """
    Raises:
        CommandFailed: the text is neither a date nor a time nor an age.
    """
    if text is None:
        return None
    try:
        return _day_or_time(text).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    try:
        age_s = parse_age(text, option=option)
    except CommandFailed as error:
        raise CommandFailed(f"{option}: must be {_MOMENT}", status=USAGE_ERROR) from error
    from common.runtime.clock import SystemClock

    return SystemClock().now() - timedelta(seconds=age_s or 0)


def _day_or_time(text: str) -> datetime:
    """A day begins, and a time without a zone is, in the time zone of this machine."""
    if len(text) == len("2025-01-15"):
        return datetime.combine(date.fromisoformat(text), time.min)
    if len(text) < len("2025-01-15T12:00"):
        raise ValueError(text)  # numbers are ages
    return datetime.fromisoformat(text)
