"""`darkroom purge`, `sweep`, `dead-letters`: what an operator does by hand.

They use the bus of the services. With `memory://`, or with --url, they use the api of a running server instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from services.cli.console import USAGE_ERROR, CommandFailed, add_command, json_text, load_settings, parse_age

if TYPE_CHECKING:
    from common.application.operation.ticks import OperatorTimer
    from common.bus.port import Bus
    from common.messages import TickData
    from common.runtime.settings import Settings
    from services.cli.console import Subparsers
    from services.cli.operator_client import OperatorClient

SOURCE = "operator"
if TYPE_CHECKING:
    OnBus: TypeAlias = Callable[[Bus], Coroutine[Any, Any, int]]
    OverHttp: TypeAlias = Callable[[OperatorClient], Coroutine[Any, Any, int]]


def add_parsers(commands: Subparsers) -> None:
    purge = add_command(commands, "purge", "have a janitor purge old images now", _purge)
    purge.add_argument("--older-than", metavar="AGE", help="for example 7d or 12h (default: RETENTION_DAYS)")
    purge.add_argument("--dry-run", action="store_true", help="count the images, change nothing")
    sweep = add_command(
        commands, "sweep", "have a janitor compare files and records now, and repair differences", _sweep
    )
    sweep.add_argument("--dry-run", action="store_true", help="report the differences, change nothing")
    letters = add_command(commands, "dead-letters", "list or handle messages that could not be handled", _dead_letters)
    letters.add_argument("action", choices=["list", "show", "redrive", "drop"], help="redrive delivers it again")
    letters.add_argument("id", nargs="?", help="id of the dead letter, from `list`")
    for parser in (purge, sweep, letters):
        parser.add_argument("--url", help="use the api of this server, not the bus (default: with memory://, this one)")
        parser.add_argument("--token", help="bearer token of an operator, for the api (default: DARKROOM_TOKEN)")


def _purge(arguments: argparse.Namespace) -> int:
    from common.messages import TickData

    data = TickData(older_than=parse_age(arguments.older_than, option="--older-than"), dry_run=arguments.dry_run)

    async def on_bus(bus: Bus) -> int:
        from common.application.operation.ticks import with_age

        return await tick_and_report("timer.purge", with_age(data, load_settings().retention))(bus)

    return _run(arguments, on_bus, lambda client: client.purge(data))


def _sweep(arguments: argparse.Namespace) -> int:
    from common.messages import TickData

    data = TickData(dry_run=arguments.dry_run)
    return _run(arguments, tick_and_report("timer.sweep", data), lambda client: client.sweep(data))


def tick_and_report(timer: OperatorTimer, data: TickData) -> OnBus:
    """Publishes the tick, then prints the janitor's report; the exit status is 1 if the janitor refused the run."""

    async def run(bus: Bus) -> int:
        import sys

        from common.application.operation.ticks import run_timer
        from common.runtime.clock import SystemClock

        report = await run_timer(bus, SystemClock(), timer, data)
        if report is None:
            raise CommandFailed("the tick is published, but no janitor has reported yet")
        fields = report.model_dump(mode="json", by_alias=True)
        sys.stdout.write(json_text(fields) + "\n")
        return 1 if fields.get("refused") else 0

    return run


def _dead_letters(arguments: argparse.Namespace) -> int:
    from services.cli import dead_letters

    letter_id, action = arguments.id, arguments.action
    if action == "list" and letter_id is not None:
        raise CommandFailed("dead-letters list: takes no id", status=USAGE_ERROR)
    if action != "list" and letter_id is None:
        raise CommandFailed(f"dead-letters {action}: takes the id of a dead letter", status=USAGE_ERROR)
    on_bus: dict[str, OnBus] = {
        "list": dead_letters.list_letters,
        "show": lambda bus: dead_letters.show_letter(bus, letter_id),
        "redrive": lambda bus: dead_letters.redrive_letter(bus, letter_id, load_settings()),
        "drop": lambda bus: dead_letters.drop_letter(bus, letter_id),
    }
    over_http: dict[str, OverHttp] = {
        "list": lambda client: client.list_letters(),
        "show": lambda client: client.show_letter(letter_id),
        "redrive": lambda client: client.redrive_letter(letter_id),
        "drop": lambda client: client.drop_letter(letter_id),
    }
    return _run(arguments, on_bus[action], over_http[action])


def _run(arguments: argparse.Namespace, on_bus: OnBus, over_http: OverHttp) -> int:
    """Run the action where the services are; returns its exit status."""
    import asyncio

    from common.domain.errors import ServiceError
    from services.cli.operator_client import OperatorClient
    from services.cli.server import checked_url, local_url, token_of

    settings = load_settings()
    url = arguments.url
    if url is None and settings.bus_url.startswith("memory:"):
        url = local_url(settings.api_host, settings.api_port)
    try:
        if url is not None:
            return asyncio.run(over_http(OperatorClient(checked_url(url), token_of(arguments, settings))))
        return asyncio.run(_with_bus(settings, on_bus))
    except ServiceError as error:
        raise CommandFailed(f"{error.code}: {error.detail}") from error


async def _with_bus(settings: Settings, action: OnBus) -> int:
    from common.bus.connect import open_bus
    from common.runtime.clock import SystemClock

    async with open_bus(settings, name=SOURCE, clock=SystemClock()) as bus:
        return await action(bus)
