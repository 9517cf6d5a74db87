"""`darkroom purge`, `sweep`, `dead-letters`: what an operator does by hand, over the bus of the services."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal

from services.cli.console import USAGE_ERROR, CommandFailed, add_command, load_settings, parse_age

if TYPE_CHECKING:
    from common.bus.port import Bus
    from common.messages import TickData
    from common.runtime.settings import Settings
    from services.cli.console import Subparsers

SOURCE = "operator"


def add_parsers(commands: Subparsers) -> None:
    purge = add_command(commands, "purge", "have a janitor purge old images now", _purge)
    purge.add_argument("--older-than", metavar="AGE", help="for example 7d or 12h (default: RETENTION_DAYS)")
    purge.add_argument("--dry-run", action="store_true", help="count the images, change nothing")
    sweep = add_command(
        commands, "sweep", "have a janitor compare files and records now, and repair differences", _sweep
    )
    sweep.add_argument("--dry-run", action="store_true", help="report the differences, change nothing")
    letters = add_command(commands, "dead-letters", "list or handle messages that could not be handled", _dead_letters)
    letters.add_argument("action", choices=["list", "show", "redrive", "drop"])
    letters.add_argument("id", nargs="?", help="id of the dead letter, from `list`")


def _purge(arguments: argparse.Namespace) -> int:
    from common.messages import TickData

    older_than_s = parse_age(arguments.older_than, option="--older-than")
    return _run_timer("timer.purge", TickData(older_than=older_than_s, dry_run=arguments.dry_run))


def _sweep(arguments: argparse.Namespace) -> int:
    from common.messages import TickData

    return _run_timer("timer.sweep", TickData(dry_run=arguments.dry_run))


def _run_timer(timer: Literal["timer.purge", "timer.sweep"], data: TickData) -> int:
    from services.cli import ticks

    return _run_on_bus(load_settings(), lambda bus: ticks.publish_tick(bus, timer, data))


def _dead_letters(arguments: argparse.Namespace) -> int:
    from services.cli import dead_letters

    letter_id, action = arguments.id, arguments.action
    if action == "list" and letter_id is not None:
        raise CommandFailed("dead-letters list: takes no id", status=USAGE_ERROR)
    if action != "list" and letter_id is None:
        raise CommandFailed(f"dead-letters {action}: takes the id of a dead letter", status=USAGE_ERROR)
    settings = load_settings()
    actions: dict[str, Callable[[Bus], Coroutine[Any, Any, int]]] = {
        "list": dead_letters.list_letters,
        "show": lambda bus: dead_letters.show_letter(bus, letter_id),
        "redrive": lambda bus: dead_letters.redrive_letter(bus, letter_id, settings),
        "drop": lambda bus: dead_letters.drop_letter(bus, letter_id),
    }
    return _run_on_bus(settings, actions[action])


def _run_on_bus(settings: Settings, action: Callable[[Bus], Coroutine[Any, Any, int]]) -> int:
    """Run the action with the bus of the settings; returns its exit status."""
    import asyncio

    from common.bus.connect import open_bus
    from common.domain.errors import ServiceError
    from common.runtime.clock import SystemClock

    if settings.bus_url.startswith("memory:"):
        raise CommandFailed(
            "BUS_URL: memory:// is out of reach from another process; set the amqp:// URL of the services",
            status=USAGE_ERROR,
        )

    async def run() -> int:
        async with open_bus(settings, name=SOURCE, clock=SystemClock()) as bus:
            return await action(bus)

    try:
        return asyncio.run(run())
    except ServiceError as error:
        raise CommandFailed(f"{error.code}: {error.detail}") from error
