"""`darkroom webhooks`: the service that delivers, the log of deliveries, replay, new secrets."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from services.cli.console import CommandFailed, add_command, load_settings, print_message, printable
from services.cli.services import run_webhooks_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from common.application.webhooks.deliveries import Deliveries, WebhookDelivery
    from services.cli.console import Subparsers


def add_parsers(commands: Subparsers) -> None:
    webhooks = add_command(commands, "webhooks", "run the service that delivers webhooks; list, replay them", _webhooks)
    actions = webhooks.add_subparsers(metavar="ACTION", dest="action", help="without one, the service runs")
    listing = actions.add_parser("list", help="list deliveries of the last seven days")
    listing.add_argument("image", nargs="?", help="only those of this image, with each try")
    states = ("open", "delivered", "failed", "disabled")
    listing.add_argument("--state", choices=states, help="only those in this state")
    replay = actions.add_parser("replay", help="deliver again, now, with the same id")
    replay.add_argument("id", nargs="+", help="ids of deliveries, from `list`")
    actions.add_parser("secret", help="print a new secret for WEBHOOK_SECRETS")


def _webhooks(arguments: argparse.Namespace) -> int:
    if arguments.action is None:
        return run_webhooks_service()
    if arguments.action == "secret":
        from services.webhooks.signing import new_secret

        sys.stdout.write(f"{new_secret()}\n")
        return 0
    return _run_on_store(arguments)


def _run_on_store(arguments: argparse.Namespace) -> int:
    import asyncio

    from common.application.webhooks.deliveries import Deliveries
    from common.domain.errors import ServiceError
    from common.runtime.clock import SystemClock
    from common.store.connect import open_store

    settings = load_settings()

    async def run() -> int:
        async with open_store(settings.store_url, timeout_s=settings.store_timeout) as store:
            deliveries = Deliveries(store, SystemClock())
            if arguments.action == "replay":
                return await _replay(deliveries, arguments.id)
            return await _list(deliveries, arguments.image, arguments.state)

    try:
        return asyncio.run(run())
    except ServiceError as error:
        raise CommandFailed(f"{error.code}: {error.detail}") from error


async def _replay(deliveries: Deliveries, ids: list[str]) -> int:
    status = 0
    for delivery_id in ids:
        if not await deliveries.replay(delivery_id):
            print_message(f"there is no delivery {delivery_id}; `darkroom webhooks list` shows the ids")
            status = 1
    return status


async def _list(deliveries: Deliveries, image: str | None, state: str | None) -> int:
    """Print one line for each delivery, sorted by image; never the whole address, which may hold a secret."""
    count = 0
    async for delivery in _found(deliveries, image):
        if state is None or delivery.state == state:
            count += 1
            _print(delivery, with_tries=image is not None)
    print_message("1 delivery" if count == 1 else f"{count} deliveries")
    return 0


async def _found(deliveries: Deliveries, image: str | None) -> AsyncIterator[WebhookDelivery]:
    if image is None:
        async for delivery in deliveries.all():
            yield delivery
    else:
        for delivery in await deliveries.of_image(image):
            yield delivery


def _print(delivery: WebhookDelivery, *, with_tries: bool) -> None:
    due = f"  next {delivery.due_at:%Y-%m-%d %H:%M:%S}" if delivery.due_at else ""
    last = f"  last {delivery.tries[-1].status or delivery.tries[-1].error}" if delivery.tries else ""
    line = f"{delivery.id}  {delivery.type}  {delivery.host}  {delivery.state}  {len(delivery.tries)} tries{last}{due}"
    sys.stdout.write(f"{printable(line)}\n")
    for each in delivery.tries if with_tries else ():
        text = f"    {each.at:%Y-%m-%d %H:%M:%S}  {each.status or each.error}  {each.took_s:.3f} s"
        sys.stdout.write(f"{printable(text)}\n")
