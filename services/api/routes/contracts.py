"""The routes of the machine-readable contracts: `/openapi.json` for REST, `/asyncapi.json` for the bus."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from common.application.fleet.reader import Fleet
from common.domain.errors import Unavailable
from services.api.context import Context
from services.api.routes.asyncapi import describe_bus
from services.api.routes.openapi.document import describe_rest
from services.api.routes.openapi.models import with_offers
from services.api.routes.operation import NO_INPUT, AnyOperation, Operation, PlainCall, RouteGroup


@dataclass(frozen=True, slots=True)
class ContractRoutes:
    describe: Callable[[], dict[str, Any]]
    fleet: Fleet

    async def openapi(self, _call: PlainCall) -> web.Response:
        """Returns the OpenAPI document of this api, as it is configured now."""
        document = await asyncio.to_thread(self.describe)
        with suppress(Unavailable):
            document = with_offers(document, (await self.fleet.current()).catalogue())
        return web.json_response(document)

    async def asyncapi(self, _call: PlainCall) -> web.Response:
        """Returns the AsyncAPI document of the bus."""
        return web.json_response(describe_bus())


OPERATIONS: Final = (
    Operation(
        "contract_openapi",
        "GET",
        "/openapi.json",
        NO_INPUT,
        ContractRoutes.openapi,
        "Get the OpenAPI document",
        answers={200: None},
        is_public=True,
    ),
    Operation(
        "contract_asyncapi",
        "GET",
        "/asyncapi.json",
        NO_INPUT,
        ContractRoutes.asyncapi,
        "Get the AsyncAPI document",
        answers={200: None},
        is_public=True,
    ),
)


def group_for(described: Sequence[AnyOperation]) -> RouteGroup[ContractRoutes]:
    """The contracts of these operations and of themselves."""

    def build(context: Context) -> ContractRoutes:
        settings = context.settings

        @functools.cache  # for the first request: it takes 80 ms, a tenth of the start of an api
        def describe() -> dict[str, Any]:
            operations = [*described, *OPERATIONS]
            return describe_rest(operations, has_identity=settings.has_identity, public_url=settings.public_url)

        return ContractRoutes(describe, context.fleet)

    return RouteGroup(build, OPERATIONS)
