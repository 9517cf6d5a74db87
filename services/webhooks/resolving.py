"""The resolver of the webhook client: the address that was checked is the one that is connected to.

A name is resolved once for each try. A second look-up between check and connection could have another answer (DNS
rebinding). Host and SNI stay the name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from common.application.webhooks.destinations import Destinations

LookUp = Callable[..., Sequence[tuple[Any, ...]]]  # as `socket.getaddrinfo`


class AddressRefused(OSError):
    """The host has an address to which no webhook may be sent."""


class CheckedResolver(AbstractResolver):
    """Look-ups run in threads of their own: a name server that does not answer delays nothing else."""

    def __init__(self, destinations: Destinations, executor: Executor, look_up: LookUp = socket.getaddrinfo) -> None:
        self._destinations = destinations
        self._executor = executor
        self._look_up = look_up

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """
        Raises:
            AddressRefused: one of its addresses is not allowed, so none is used.
            OSError: the name cannot be resolved.
        """

        def look_up() -> Sequence[tuple[Any, ...]]:
            try:
                return self._look_up(host, port, family=family, type=socket.SOCK_STREAM)
            except UnicodeError as error:  # of the codec `idna`, if a name is too long
                raise OSError(str(error)) from error

        found = await asyncio.get_running_loop().run_in_executor(self._executor, look_up)
        for _, _, _, _, address in found:
            self.require(host, address[0])
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=port,
                family=each,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for each, _, protocol, _, address in found
        ]

    def require(self, host: str, address: str) -> None:
        """Raises AddressRefused."""
        if not self._destinations.may_connect(host, address):
            raise AddressRefused("the host has an address that is not public")

    async def close(self) -> None:
        """Nothing is open; the executor is its owner's."""
