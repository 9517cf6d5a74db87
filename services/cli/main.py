"""The `darkroom` command. Each subcommand imports what it needs, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from common.messages import TickData
    from common.runtime.settings import Settings

SERVICES = {
    "api": "the HTTP and websocket edge",
    "generator": "takes orders and has pictures painted; run as many as you like",
    "janitor": "purges, reconciles and sweeps; more than one is safe",
    "inference": "the reference inference server, a stand-in that needs no GPU",
}
READY = """
  Darkroom is ready:  {url}

  order a picture     .venv/bin/darkroom generate "a lighthouse at dusk, stormy sea"
  or with curl        curl -s {url}/v1/images/generations -H 'Content-Type: application/json' \\
                           -d '{{"prompt": "a lighthouse at dusk, stormy sea"}}'
  stop                Ctrl-C (what is in hand is finished first; once more stops at once)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    chosen = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = chosen.run
    return run(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="darkroom",
        description="The back end of an image playground.",
        epilog="Settings come from the environment and from .env; docs/settings.md lists them.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _command(commands, "up", "everything in one process; the place to start", _up)
    for name, what in SERVICES.items():
        _command(commands, name, what, _service).set_defaults(service=name)
    order = _command(commands, "generate", "order one picture from a running server, and write the file", _generate)
    order.add_argument("prompt")
    order.add_argument("--url", default=None, help="of the api (default: by API_HOST and API_PORT)")
    order.add_argument("-o", "--output", type=Path, help="file to write (default: <id>.<ext> here)")
    order.add_argument("--negative-prompt", default="", metavar="TEXT")
    order.add_argument("--model", metavar="NAME")
    order.add_argument("--sampler", metavar="NAME")
    order.add_argument("--width", type=int, metavar="PIXELS")
    order.add_argument("--height", type=int, metavar="PIXELS")
    order.add_argument("--steps", type=int)
    order.add_argument("--cfg-scale", type=float)
    order.add_argument("--seed", type=int)
    order.add_argument("--token", help="bearer token, where the server asks for one (default: DARKROOM_TOKEN)")
    purge = _command(commands, "purge", "have a janitor purge old images now", _purge)
    purge.add_argument("--older-than", metavar="AGE", help="as 7d or 12h (default: RETENTION_DAYS)")
    purge.add_argument("--dry-run", action="store_true", help="say how many, and touch nothing")
    sweep = _command(commands, "sweep", "have a janitor compare files and records now, and mend what drifted", _sweep)
    sweep.add_argument("--dry-run", action="store_true", help="report, and touch nothing")
    letters = _command(commands, "dead-letters", "messages that could not be handled", _dead_letters)
    letters.add_argument("do", choices=["list", "show", "redrive", "drop"])
    letters.add_argument("id", nargs="?", help="of the letter, as `list` shows it")
    _keys_commands(commands)
    _command(commands, "settings", "a table of all settings", _settings_table)
    return parser


def _keys_commands(commands: Any) -> None:
    keys = _command(commands, "keys", "API keys of owners", _keys)
    actions = keys.add_subparsers(metavar="ACTION", required=True, dest="do")
    create = actions.add_parser("create", help="make a key; it is printed once")
    create.add_argument("owner", help="whose images the key gives access to")
    create.add_argument("--name", default="", help="what it is for, as `list` shows it")
    create.add_argument("--expires", metavar="AGE", help="after 90d or 12h (default: never)")
    actions.add_parser("list", help="all keys, by id")
    revoke = actions.add_parser("revoke", help="take a key back, at once")
    revoke.add_argument("id", help="as `list` shows it")


def _command(commands: Any, name: str, what: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what)
    parser.set_defaults(run=run)
    return parser


def _up(_arguments: argparse.Namespace) -> int:
    from services import embedded

    def on_ready(url: str) -> None:
        print(READY.format(url=url), flush=True)

    async def serve(settings: Settings, stopping: asyncio.Event) -> None:
        await embedded.up(settings, stopping, on_ready)

    return _run("up", serve)


def _service(arguments: argparse.Namespace) -> int:
    from services import standalone

    serve = {
        "api": standalone.api,
        "generator": standalone.generator,
        "janitor": standalone.janitor,
        "inference": standalone.inference,
    }
    return _run(arguments.service, serve[arguments.service])


def _run(name: str, serve: Callable[[Settings, asyncio.Event], Any]) -> int:
    from common.runtime import lifetime
    from common.runtime.logs import set_up_logs

    settings = _settings()
    if settings is None:
        return 2
    set_up_logs(service=name, level=settings.log_level, as_json=settings.log_format == "json")
    return lifetime.run(lambda stopping: serve(settings, stopping))


def _generate(arguments: argparse.Namespace) -> int:
    from services.cli import generate

    settings = _settings()
    if settings is None:
        return 2
    wanted = ("negative_prompt", "model", "sampler", "width", "height", "steps", "cfg_scale", "seed")
    order = {"prompt": arguments.prompt, **{name: getattr(arguments, name) for name in wanted}}
    return generate.run(
        url=arguments.url or f"http://{settings.api_host}:{settings.api_port}",
        order={name: value for name, value in order.items() if value is not None},
        output=arguments.output,
        token=arguments.token or settings.darkroom_token,
    )


def _purge(arguments: argparse.Namespace) -> int:
    from common.messages import TickData
    from common.runtime.settings import parse_duration

    try:
        older_than = parse_duration(arguments.older_than)
    except ValueError as error:
        print(f"darkroom: --older-than: {error}", file=sys.stderr)
        return 2
    return _fire("timer.purge", TickData(older_than=older_than, dry_run=arguments.dry_run))


def _sweep(arguments: argparse.Namespace) -> int:
    from common.messages import TickData

    return _fire("timer.sweep", TickData(dry_run=arguments.dry_run))


def _fire(timer: str, data: TickData) -> int:
    from services.cli import operator

    settings = _settings()
    return 2 if settings is None else operator.run(settings, lambda bus: operator.fire(bus, timer, data))


def _dead_letters(arguments: argparse.Namespace) -> int:
    from services.cli import operator

    if (arguments.id is None) != (arguments.do == "list"):
        print(f"darkroom: dead-letters {arguments.do}: takes the id of a letter, or none for list", file=sys.stderr)
        return 2
    settings = _settings()
    if settings is None:
        return 2
    acts = {
        "list": operator.list_letters,
        "show": lambda bus: operator.show_letter(bus, arguments.id),
        "redrive": lambda bus: operator.redrive_letter(bus, arguments.id, settings),
        "drop": lambda bus: operator.drop_letter(bus, arguments.id),
    }
    return operator.run(settings, acts[arguments.do])


def _keys(arguments: argparse.Namespace) -> int:
    from common.runtime.settings import parse_duration
    from services.cli import keys

    try:
        holds_s = parse_duration(getattr(arguments, "expires", None))
    except ValueError as error:
        print(f"darkroom: --expires: {error}", file=sys.stderr)
        return 2
    settings = _settings()
    if settings is None:
        return 2
    acts = {
        "create": lambda book: keys.create(
            book, arguments.owner, name=arguments.name, holds_s=holds_s, is_on=settings.has_identity
        ),
        "list": keys.list_keys,
        "revoke": lambda book: keys.revoke(book, arguments.id),
    }
    return keys.run(settings, acts[arguments.do])


def _settings_table(_arguments: argparse.Namespace) -> int:
    from common.runtime.settings import settings_table

    print(settings_table(), end="")
    return 0


def _settings() -> Settings | None:
    from common.domain.errors import Misconfigured
    from common.runtime.settings import process_settings

    try:
        return process_settings()
    except Misconfigured as error:
        print(f"darkroom: {error.detail}", file=sys.stderr)
        return None
