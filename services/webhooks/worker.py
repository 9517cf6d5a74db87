"""The webhooks service: it delivers what is on record until it is stopped."""

from __future__ import annotations

import asyncio
import logging

from common.application.resources import Resources
from common.application.webhooks.deliveries import DELIVERED_EVENTS, Deliveries
from common.runtime.settings import Settings
from services.webhooks.courier import POLL_S, Courier
from services.webhooks.sender import WebhookSender

log = logging.getLogger(__name__)


async def run_webhooks(
    settings: Settings, resources: Resources, *, stopping: asyncio.Event, poll_s: float = POLL_S
) -> None:
    """Run until `stopping` is set; run as many as you like."""
    if not settings.webhook_secrets:
        log.info("no webhooks are sent: WEBHOOK_SECRETS is not set")
        await stopping.wait()
        return
    async with WebhookSender.opened(settings, resources.clock) as sender:
        courier = Courier(
            settings,
            deliveries=Deliveries(resources.store, resources.clock),
            sender=sender,
            clock=resources.clock,
            poll_s=poll_s,
        )
        # the event says that something may be due; what is due, and that nothing is lost, is a matter of the store
        async with resources.bus.subscribe(DELIVERED_EVENTS, lambda _: courier.wake()), asyncio.TaskGroup() as group:
            group.create_task(courier.run(stopping))
            log.info("delivering webhooks")
            await stopping.wait()
            courier.wake()
