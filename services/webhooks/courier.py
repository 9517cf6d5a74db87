"""The courier: sends what is due in the line of each host.

    scan: the lines of all hosts, in turn ─▶ claim, on record ─▶ a task: send, then record the outcome and the next try

A host has a bounded number of tries at once, so a receiver that hangs fills its own share only. What waits is in the
store; here is what is being sent. If the process dies, its claims end by themselves and another try is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Final

from common.application.webhooks.deliveries import (
    DUE,
    MAX_TRIES_KEPT,
    PAGE,
    Deliveries,
    DeliveryState,
    DeliveryTry,
    WebhookDelivery,
    due_time,
)
from common.domain.errors import Unavailable
from common.runtime import metrics
from common.runtime.clock import Clock
from common.runtime.logs import log_context
from common.runtime.settings import Settings
from common.runtime.tracing.spans import SpanKind, span_of_message
from services.webhooks.retries import next_delay_s
from services.webhooks.sender import WebhookAnswer, WebhookSender

log = logging.getLogger(__name__)

POLL_S: Final = 1.0  # between two scans without an event; a retry is late by this
PAUSE_S: Final = 0.02  # between two scans, however many events there are
GONE: Final = 410


class Courier:
    def __init__(
        self, settings: Settings, *, deliveries: Deliveries, sender: WebhookSender, clock: Clock, poll_s: float = POLL_S
    ) -> None:
        self._settings = settings
        self._deliveries = deliveries
        self._sender = sender
        self._clock = clock
        self._poll_s = poll_s
        # a try, and the writes before and after it
        self._claim_for = timedelta(seconds=settings.webhook_timeout + 4 * settings.store_timeout)
        self._wakeup = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._by_host: Counter[str] = Counter()
        self._last_host = ""

    def wake(self) -> None:
        """Scan now: something may be due."""
        self._wakeup.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until `stopping` is set, then wait for the tries that are being made."""
        try:
            while not stopping.is_set():
                self._wakeup.clear()
                try:
                    await self._scan()
                except Unavailable as error:
                    log.warning("what is due is not known: %s", error)
                await asyncio.sleep(PAUSE_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await self._wakeup.wait()
            if self._sending:
                await asyncio.wait(self._sending, timeout=self._settings.grace_period)
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def _scan(self) -> None:
        """Look at the line of each host, beginning after the one where a scan has run out of room."""
        began_at = self._last_host
        await self._scan_lines("", began_after=began_at)
        if began_at and self._has_room():
            self._last_host = ""
            await self._scan_lines(began_at, began_after="")
        if self._has_room():
            self._last_host = ""

    async def _scan_lines(self, last: str, *, began_after: str) -> None:
        """Look at the lines of the hosts after one, up to the last, if one is named."""
        host = began_after
        while self._has_room():
            found = await self._deliveries.store.entries_after(DUE, _after_line(host), limit=1)
            if not found or (last and host >= last):
                return
            host = self._last_host = found[0].key.partition("/")[0]
            await self._scan_line(host)

    async def _scan_line(self, host: str) -> None:
        """Start what is due, at most as many tries as the host may have at once.

        Tries that end meanwhile make room again, so without that bound a host that answers quickly would be served to
        the end of its line before the next host.
        """
        after, started = f"{host}/", 0
        while True:
            page = await self._deliveries.store.entries_after(DUE, after, limit=PAGE)
            for place in page:
                if not place.key.startswith(f"{host}/") or due_time(place.key) > self._clock.now():
                    return
                if started == self._settings.webhook_host_concurrency or not self._has_room(host):
                    return
                after = place.key
                until = self._clock.now() + self._claim_for
                if (delivery := await self._deliveries.claim(place.key, until=until)) is not None:
                    self._start(delivery)
                    started += 1
            if len(page) < PAGE:
                return

    def _has_room(self, host: str | None = None) -> bool:
        is_free = len(self._sending) < self._settings.webhook_concurrency
        return is_free and (host is None or self._by_host[host] < self._settings.webhook_host_concurrency)

    def _start(self, delivery: WebhookDelivery) -> None:
        host = delivery.host
        task = asyncio.create_task(self._deliver(delivery))
        self._sending.add(task)
        self._by_host[host] += 1
        metrics.webhooks_in_flight.set(len(self._sending))

        def ended(_: asyncio.Task[None]) -> None:
            self._sending.discard(task)
            self._by_host[host] -= 1
            if not self._by_host[host]:
                del self._by_host[host]
            metrics.webhooks_in_flight.set(len(self._sending))
            self.wake()

        task.add_done_callback(ended)

    async def _deliver(self, delivery: WebhookDelivery) -> None:
        with log_context(delivery.image_id, delivery.traceparent):
            await self._try_to_deliver(delivery)

    async def _try_to_deliver(self, delivery: WebhookDelivery) -> None:
        try:
            if await self._deliveries.is_disabled(delivery):
                await self._deliveries.reschedule(delivery, None, state=DeliveryState.DISABLED)
                return
            began_s = self._clock.monotonic()
            at = self._clock.now()
            answer = await self._traced(delivery)
            took_s = round(self._clock.monotonic() - began_s, 3)
            await self._note(
                delivery, answer, DeliveryTry(at=at, took_s=took_s, status=answer.status, error=answer.error)
            )
        except Unavailable as error:
            log.warning("webhook %s is tried again when its claim ends: %s", delivery.id, error)
        except Exception:
            log.exception("webhook %s is tried again when its claim ends", delivery.id)

    async def _traced(self, delivery: WebhookDelivery) -> WebhookAnswer:
        # the path is not recorded, as it may be a secret
        attributes = {
            "http.request.method": "POST",
            "server.address": delivery.host,
            "darkroom.webhook.id": delivery.id,
        }
        with span_of_message(
            "POST webhook", SpanKind.CLIENT, attributes, traceparent=delivery.traceparent, image_id=delivery.image_id
        ) as sent:
            answer = await self._sender.send(delivery)
            if answer.status is not None:
                sent.set("http.response.status_code", answer.status)
            if not answer.is_success:
                sent.fail(str(answer.status or answer.error))
            return answer

    async def _note(self, delivery: WebhookDelivery, answer: WebhookAnswer, made: DeliveryTry) -> None:
        tried = delivery.tried + 1
        delay_s: float | None = None
        state = DeliveryState.DELIVERED
        if answer.status == GONE:
            state = DeliveryState.DISABLED
            await self._deliveries.disable(delivery)
        elif not answer.is_success:
            delay_s = next_delay_s(tried, self._settings.webhook_retries, retry_after_s=answer.retry_after_s)
            state = DeliveryState.FAILED if delay_s is None else DeliveryState.OPEN
        due_at = None if delay_s is None else self._clock.now() + timedelta(seconds=delay_s)
        metrics.webhook_tries.labels(_outcome(answer)).inc()
        if state is not DeliveryState.OPEN:
            metrics.webhooks_ended.labels(state.value).inc()
        log.info("webhook %s: %s, %s", delivery.id, answer.status or answer.error, state)
        tries = (*delivery.tries, made)[-MAX_TRIES_KEPT:]
        await self._deliveries.reschedule(delivery, due_at, state=state, tried=tried, tries=tries)


def _after_line(host: str) -> str:
    """A text after all places of the host, and before those of the next: `0` follows `/`."""
    return f"{host}0" if host else ""


def _outcome(answer: WebhookAnswer) -> str:
    return f"{answer.status // 100}xx" if answer.status is not None else "no_answer"
