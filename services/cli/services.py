"""`darkroom up`, `api`, `generator`, `janitor`, `inference`, `webhooks`: the commands that run services."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from services.cli.console import CommandFailed, add_command, load_settings

if TYPE_CHECKING:
    import asyncio

    from common.runtime.settings import Settings
    from services.cli.console import Subparsers

SERVICES = {
    "api": "run the HTTP and websocket API",
    "generator": "run a generator, which has images painted; run as many as you like",
    "janitor": "run a janitor, which purges, reconciles and sweeps; running several is safe",
    "inference": "run the reference inference server, a stand-in that needs no GPU",
}
READY = """
  Darkroom is ready:  {url}

  generate an image   .venv/bin/darkroom generate "a lighthouse at dusk, stormy sea"
  or with curl        curl -s {url}/v1/images/generations -H 'Content-Type: application/json' \\
                           -d '{{"prompt": "a lighthouse at dusk, stormy sea"}}'
  stop                Ctrl-C finishes the images in progress; a second Ctrl-C stops at once
"""


def add_parsers(commands: Subparsers) -> None:
    add_command(commands, "up", "run all services in one process; start here", _up)
    for name, summary in SERVICES.items():
        add_command(commands, name, summary, _service).set_defaults(service=name)


def _up(_arguments: argparse.Namespace) -> int:
    from services import embedded

    def on_ready(url: str) -> None:
        print(READY.format(url=url), flush=True)

    async def serve(settings: Settings, stopping: asyncio.Event) -> None:
        await embedded.up(settings, stopping, on_ready)

    return _run("up", serve)


def run_webhooks_service() -> int:
    """Run the service of `darkroom webhooks`, which is a group of commands."""
    from services import standalone

    return _run("webhooks", standalone.webhooks)


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
    from common.runtime.reading_settings import wants_json_log
    from common.runtime.tracing.connect import tracing

    try:
        settings = load_settings()
    except CommandFailed as error:
        if not wants_json_log():
            raise
        set_up_logs(service=name, level="INFO", as_json=True)
        lifetime.log_failure(error.code, str(error))
        return error.status
    as_json = settings.log_format == "json"
    set_up_logs(service=name, level=settings.log_level, as_json=as_json)

    async def traced(stopping: asyncio.Event) -> None:
        async with tracing(settings, service="darkroom" if name == "up" else f"darkroom-{name}"):
            await serve(settings, stopping)

    return lifetime.run(traced, as_json=as_json)
