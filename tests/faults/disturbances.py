"""Disturbances in a round of chaos: breaks processes, connections or the broker by chance."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from common.application.fleet.announcements import MISSED_BEATS
from tests.faults.fault_cluster import FaultCluster
from tests.servers.rabbitmq import RabbitMQ


class Disturbances:
    """Breaks one thing after another until it is cancelled; `repair` repairs everything."""

    def __init__(self, cluster: FaultCluster, broker: RabbitMQ, dice: random.Random, *, pause_s: float) -> None:
        self.faults: Counter[str] = Counter()
        self.times: list[datetime] = []
        self._cluster = cluster
        self._broker = broker
        self._dice = dice
        self._pause_s = pause_s

    async def run(self, *, restarts: int, within_s: float) -> None:
        """Spread `restarts` of the broker over about `within_s` seconds; choose all other faults by chance."""
        began = time.monotonic()
        due = [within_s * (number + 0.5) / restarts for number in range(restarts)]
        acts: list[tuple[int, str, Callable[[], Awaitable[None]]]] = [
            (6, "kill", self._kill),
            (1, "term", self._term),
            (2, "freeze", self._freeze),
            (1, "lose a pool", self._lose_pool),
            (4, "cut", self._cut),
            (2, "silence", self._silence),
            (2, "refuse", self._refuse),
        ]
        weights = [weight for weight, _, _ in acts]
        while True:
            await asyncio.sleep(self._dice.uniform(0.5, 1.5) * self._pause_s)
            if due and time.monotonic() - began > due[0]:
                due.pop(0)
                name = self._dice.choice(["restart", "crash"])
                act: Callable[[], Awaitable[None]] = self._restart if name == "restart" else self._crash
            else:
                [(_, name, act)] = self._dice.choices(acts, weights)
            self.faults[name] += 1
            self.times.append(datetime.now(UTC))
            await act()

    def repair(self) -> None:
        for line in [*self._cluster.proxies.values(), *self._cluster.inference_proxies.values()]:
            line.resume()
        for service in self._cluster.services.values():
            if service.is_running:
                service.signal(signal.SIGCONT)

    async def _kill(self) -> None:
        self._signal(signal.SIGKILL, self._anyone())

    async def _term(self) -> None:
        self._signal(signal.SIGTERM, self._anyone())

    async def _freeze(self) -> None:
        """Stop longer than a lease: another process takes the work over before this one continues."""
        alias = self._anyone()
        self._signal(signal.SIGSTOP, alias)
        await asyncio.sleep(float(self._cluster.settings["LEASE"]) * 1.7)
        self._signal(signal.SIGCONT, alias)

    async def _lose_pool(self) -> None:
        """Stop all generators of a pool for so long that the others take it for gone: its images wait again."""
        pools = sorted({alias.rpartition("-")[0] for alias in self._cluster.proxies if alias.startswith("generator")})
        pool = self._dice.choice(pools)
        lost = [alias for alias in self._cluster.proxies if alias.rpartition("-")[0] == pool]
        for alias in lost:
            self._signal(signal.SIGSTOP, alias)
        await asyncio.sleep(2 * MISSED_BEATS * float(self._cluster.settings.get("ANNOUNCE_INTERVAL", "1")))
        for alias in lost:
            self._signal(signal.SIGCONT, alias)

    async def _cut(self) -> None:
        self._cluster.proxies[self._anyone()].cut()

    async def _silence(self) -> None:
        line = self._cluster.proxies[self._anyone()]
        line.silence()
        await asyncio.sleep(self._dice.uniform(1, 6))
        line.resume()

    async def _refuse(self) -> None:
        line = self._dice.choice(list(self._cluster.inference_proxies.values()))
        line.refuse()
        await asyncio.sleep(self._dice.uniform(0.5, 2))
        await line.listen()

    async def _restart(self) -> None:
        await asyncio.to_thread(self._broker.stop)
        await asyncio.to_thread(self._broker.start)

    async def _crash(self) -> None:
        await asyncio.to_thread(self._broker.kill)
        await asyncio.to_thread(self._broker.start)

    def _anyone(self) -> str:
        """A generator as often as any other."""
        aliases = list(self._cluster.proxies)
        return self._dice.choice([*aliases, *(alias for alias in aliases if alias.startswith("generator"))])

    def _signal(self, number: signal.Signals, alias: str) -> None:
        service = self._cluster.services[alias]
        if service.is_running:
            service.signal(number)
