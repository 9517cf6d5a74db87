"""A foreign publisher in a round of chaos: another service that orders, cancels and forges by the broker alone.

Its user may write to the exchange `image.commands` and do nothing else. Each message says what must come of it:

    TAKEN       its image is on record, final, painted once
    REFUSED     it becomes a dead letter with a reason, and changes no image
    WITHOUT     it changes nothing, and need not leave a dead letter
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aio_pika
from aio_pika.abc import AbstractExchange

from common.bus.handling import cancel_requests
from common.bus.rabbitmq.connection import SelfClosingConnection
from common.bus.rabbitmq.deadlines import BrokerUnavailable, close_quietly, deadline
from common.domain.images import new_image_id
from tests.cluster import ORDER
from tests.faults.checker import FOREIGN_MARK, OWNER

COMMANDS = "image.commands"
RIGHTS = ("^$", r"^image\.commands$", "^$")  # configure, write, read
SOURCE = "newsletter"
FORGED = "forged"  # the code and the text of forged reasons
CONFIRM_S = 3.0
RETRY_S = 0.3
MOMENT_S = 0.05  # the longest time between a cancel and its order


@dataclass
class ForeignReport:
    """What the publisher has sent, as the broker confirmed it."""

    sent: Counter[str] = field(default_factory=Counter)
    taken: dict[str, str] = field(default_factory=dict)  # id in canonical form to kind
    refused: dict[str, str] = field(default_factory=dict)  # mark in its body to kind
    may_be_cancelled: set[str] = field(default_factory=set)


class ForeignPublisher:
    """`others` gives the ids of images that other callers have requested."""

    def __init__(self, url: str, dice: random.Random, others: Callable[[], list[str]], *, pause_s: float) -> None:
        self.report = ForeignReport()
        self._url = url
        self._dice = dice
        self._others = others
        self._pause_s = pause_s
        self._exchange: AbstractExchange | None = None
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._numbers = 0

    async def run(self) -> None:
        """Send one message after another until cancelled."""
        acts: list[tuple[int, str, Callable[[], Any]]] = [
            (4, "orders of one subject", self._campaign),
            (2, "ids in capitals", self._capitals),
            (2, "repeated ids", self._repeated),
            (2, "without time", self._without_time),
            (2, "content type with a charset", self._with_charset),
            (2, "extension attributes", self._with_extensions),
            (3, "malformed orders", self._malformed),
            (1, "malformed orders for others' images", self._malformed_for_another),
            (2, "bodies that are no message", self._no_message),
            (1, "forged dead letters", self._forged_letter),
            (1, "forged ticks", self._forged_tick),
            (2, "cancels of own images", self._cancel_own),
            (2, "cancels of others' images", self._cancel_other),
            (1, "cancels of unknown images", self._cancel_unknown),
            (2, "cancels before their order", self._cancel_first),
        ]
        weights = [weight for weight, _, _ in acts]
        try:
            while True:
                [(_, kind, act)] = self._dice.choices(acts, weights)
                await act()
                self.report.sent[kind] += 1
                await asyncio.sleep(self._dice.uniform(0.5, 1.5) * self._pause_s)
        finally:
            await self._close()

    # -- orders that are to be taken

    async def _campaign(self) -> None:
        """Several orders of one newsletter, which names itself as their subject."""
        subject = f"newsletter-{self._dice.randrange(10)}"
        for _ in range(self._dice.randint(2, 4)):
            await self._take("one subject", self._order(subject=subject))

    async def _capitals(self) -> None:
        order = self._order()
        await self._take("capitals", {**order, "id": order["id"].upper()})

    async def _repeated(self) -> None:
        order = self._order()
        for _ in range(3):
            await self._take("repeated", order)

    async def _without_time(self) -> None:
        order = self._order()
        del order["time"]
        await self._take("without time", order)

    async def _with_charset(self) -> None:
        await self._take("charset", self._order(datacontenttype="application/json; charset=utf-8"))

    async def _with_extensions(self) -> None:
        await self._take("extensions", self._order(comexampletenant="a", comexamplecount=7, partitionkey="7"))

    async def _take(self, kind: str, order: dict) -> None:
        await self._send("generate", json.dumps(order).encode())
        self.report.taken[order["id"].lower()] = kind

    # -- messages that are to be refused

    async def _malformed(self) -> None:
        order = self._order()
        changes: list[dict[str, Any]] = [
            {"owner": None},
            {"owner": ""},
            {"owner": "x" * 5000},
            {"data": {"width": "wide"}},
            {"data": {**order["data"], "width": 63}},
            {"data": {**order["data"], "prompt": "\0"}},
            {"data": None},
            {"id": "no-uuid"},
            {"id": 7},
            {"time": "yesterday"},
            {"time": "0001-01-01T00:00:00+23:59"},
            {"specversion": "9"},
            {"type": "image.explode"},
            {"datacontenttype": "text/html"},
        ]
        await self._refuse("malformed", {**order, **self._dice.choice(changes)})

    async def _malformed_for_another(self) -> None:
        if others := self._others():
            order = self._order(id=self._dice.choice(others), data={"width": "wide"})
            await self._refuse("malformed for another", order)

    async def _refuse(self, kind: str, order: dict) -> None:
        mark = self._mark()
        await self._send("generate", json.dumps({**order, "comexamplemark": mark}).encode())
        self.report.refused[mark] = kind

    async def _no_message(self) -> None:
        mark = self._mark()
        body = mark.encode()
        shapes = [body, b"\xff\xfe" + body, b"[" * 5000 + body, json.dumps([mark]).encode(), body + b"x" * 100_000]
        await self._send("generate", self._dice.choice(shapes))
        self.report.refused[mark] = "no message"

    # -- messages that are to change nothing

    async def _forged_letter(self) -> None:
        """A made-up dead letter, which would fail the image of another."""
        if others := self._others():
            letter = {"type": "image.generate", "id": self._dice.choice(others), "owner": OWNER}
            body = json.dumps({**letter, "comexamplemark": self._mark()}).encode()
            died_at = self._dice.choice(["1970-01-01T00:00:00.000Z", "2025-01-15T12:00:00", "never"])
            headers = {"reason": f"{FORGED}: {FORGED}", "queue": "image.commands.generate.v1", "died-at": died_at}
            await self._send("dead", body, headers)

    async def _forged_tick(self) -> None:
        kind = self._dice.choice(["purge", "sweep", "reconcile"])
        options = {"olderThan": 0, "dryRun": False}
        tick = self._envelope(type=f"timer.{kind}", data=options, comexamplemark=self._mark())
        await self._send(kind, json.dumps(tick).encode())

    async def _cancel_own(self) -> None:
        if self.report.taken:
            image_id = self._dice.choice(list(self.report.taken))
            self.report.may_be_cancelled.add(image_id)
            await self._send("cancel", self._cancel_of(image_id))

    async def _cancel_other(self) -> None:
        """Of an image that another service, or the api, has requested: of the newest, which may still be open."""
        if others := self._others():
            owner = self._dice.choice([OWNER, "mallory", None])
            await self._send("cancel", self._cancel_of(self._dice.choice(others[-20:]), owner=owner))

    async def _cancel_unknown(self) -> None:
        """An old one: a new one is kept for as long as its order may come."""
        long_ago = datetime.now(UTC) - timedelta(days=1)
        await self._send("cancel", self._cancel_of(new_image_id(long_ago), time=long_ago.isoformat()))

    async def _cancel_first(self) -> None:
        # the cancel wins if a janitor lives to handle it first; tests/borders/generator shows that
        order = self._order()
        await self._send("cancel", self._cancel_of(order["id"]))
        self.report.may_be_cancelled.add(order["id"])
        await asyncio.sleep(self._dice.uniform(0, MOMENT_S))
        await self._take("cancelled first", order)

    # -- messages

    def _mark(self) -> str:
        return f"{FOREIGN_MARK}{self._number()}"

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _envelope(self, **fields: Any) -> dict[str, Any]:
        now = datetime.now(UTC)
        envelope = {"specversion": "1.0", "id": new_image_id(now), "source": SOURCE, "time": now.isoformat()}
        return {**envelope, **fields}

    def _order(self, **fields: Any) -> dict[str, Any]:
        data = {**ORDER, "prompt": f"foreign {self._number()}"}
        return self._envelope(**{"type": "image.generate", "owner": OWNER, "data": data, **fields})

    def _cancel_of(self, image_id: str, **fields: Any) -> bytes:
        cancel = {"type": "image.cancel", "subject": image_id, "owner": OWNER, "data": {}, **fields}
        return json.dumps(self._envelope(**cancel, comexamplemark=self._mark())).encode()

    # -- the connection

    async def _send(self, key: str, body: bytes, headers: dict[str, Any] | None = None) -> None:
        """Publish until the broker confirms, as a careful publisher does: a message may be sent twice."""
        message = aio_pika.Message(body, headers=dict(headers or {}), content_type="application/cloudevents+json")
        while True:
            try:
                async with deadline(CONFIRM_S):
                    exchange = self._exchange or await self._open()
                    await exchange.publish(message, key, mandatory=False)
                return
            except BrokerUnavailable:
                raise_if_cancelled()
                await self._close()
                await asyncio.sleep(RETRY_S)

    async def _open(self) -> AbstractExchange:
        self._connection = await aio_pika.connect(self._url, connection_class=SelfClosingConnection)
        channel = await self._connection.channel()
        self._exchange = await channel.get_exchange(COMMANDS, ensure=False)
        return self._exchange

    async def _close(self) -> None:
        connection, self._connection, self._exchange = self._connection, None, None
        if connection is not None:
            await close_quietly(connection.close())


def raise_if_cancelled() -> None:
    """Raise the CancelledError that the library swallows while its connection closes."""
    if cancel_requests():
        raise asyncio.CancelledError
