"""The routes for operators, below `/api/status/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from common.application.operation import dead_letters
from common.application.operation.ticks import OperatorTimer, run_timer, with_age
from common.bus.port import DeadLetter
from common.messages import PurgeReport, SweepReport, TickData
from services.api.context import Context
from services.api.routes.operation import NO_INPUT, Call, Operation, PlainCall, RouteGroup, answer, body_of
from services.api.status.access import require_operator
from services.api.status.report import StatusReader
from services.api.status.schema import (
    DeadLetterContent,
    DeadLetterList,
    DeadLetterStatus,
    Redriven,
    StatusReport,
    TickPublished,
)

WAIT_S: Final = 20.0  # for the report of a janitor: less than proxies wait for an answer (nginx: 60 s)


@dataclass(frozen=True, slots=True)
class StatusRoutes:
    context: Context

    async def status(self, call: PlainCall) -> web.Response:
        """Returns generators, queues, storage and health of the deployment."""
        self._require_operator(call)
        return answer(await StatusReader(self.context).report())

    async def letters(self, call: PlainCall) -> web.Response:
        """Lists the oldest messages that could not be handled. On RabbitMQ a list holds all of them for a moment."""
        self._require_operator(call)
        found = await self.context.bus.dead_letters(dead_letters.MAX_LISTED)
        return answer(DeadLetterList(dead_letters=[_letter(letter) for letter in found]))

    async def letter(self, call: PlainCall) -> web.Response:
        """Returns a dead letter with its body."""
        self._require_operator(call)
        found = await dead_letters.find_letter(self.context.bus, call.request.match_info["letter"])
        return answer(DeadLetterContent(**dict(_letter(found)), body=found.body.decode(errors="replace")))

    async def redrive(self, call: PlainCall) -> web.Response:
        """Delivers the message again, or requests its image again if that has failed."""
        self._require_operator(call)
        context = self.context
        image_id = await dead_letters.redrive_letter(
            context.bus, context.clock, call.request.match_info["letter"], find_image=context.store.get
        )
        return answer(Redriven(image_id=image_id))

    async def drop(self, call: PlainCall) -> web.Response:
        """Deletes a dead letter."""
        self._require_operator(call)
        await dead_letters.drop_letter(self.context.bus, call.request.match_info["letter"])
        return web.Response(status=204)

    async def purge(self, call: Call[None, TickData]) -> web.Response:
        """Has a janitor purge old images now, and returns its report."""
        self._require_operator(call)
        return await self._run("timer.purge", with_age(call.body, self.context.settings.retention))

    async def sweep(self, call: Call[None, TickData]) -> web.Response:
        """Has a janitor compare files and records now, and returns its report."""
        self._require_operator(call)
        return await self._run("timer.sweep", call.body)

    async def _run(self, timer: OperatorTimer, data: TickData) -> web.Response:
        report = await run_timer(self.context.bus, self.context.clock, timer, data, wait_s=WAIT_S)
        return answer(TickPublished(), status=202) if report is None else answer(report)

    def _require_operator(self, call: PlainCall | Call[None, TickData]) -> None:
        require_operator(call.request, call.caller, self.context.settings)


OPERATIONS: Final = (
    Operation(
        "status_get",
        "GET",
        "/api/status/",
        NO_INPUT,
        StatusRoutes.status,
        "Get the status of the deployment",
        answers={200: StatusReport},
        problems=(401, 403, 406, 413, 503),
    ),
    Operation(
        "status_letters",
        "GET",
        "/api/status/dead-letters/",
        NO_INPUT,
        StatusRoutes.letters,
        "List the dead letters",
        answers={200: DeadLetterList},
        problems=(401, 403, 406, 413, 503),
    ),
    Operation(
        "status_letter",
        "GET",
        "/api/status/dead-letters/{letter}/",
        NO_INPUT,
        StatusRoutes.letter,
        "Get a dead letter",
        answers={200: DeadLetterContent},
        problems=(401, 403, 404, 406, 413, 503),
    ),
    Operation(
        "status_redrive",
        "POST",
        "/api/status/dead-letters/{letter}/redrive/",
        NO_INPUT,
        StatusRoutes.redrive,
        "Deliver a dead letter again",
        answers={200: Redriven},
        problems=(400, 401, 403, 404, 406, 413, 503),
    ),
    Operation(
        "status_drop",
        "DELETE",
        "/api/status/dead-letters/{letter}/",
        NO_INPUT,
        StatusRoutes.drop,
        "Delete a dead letter",
        answers={204: None},
        problems=(401, 403, 404, 413, 503),
    ),
    Operation(
        "status_purge",
        "POST",
        "/api/status/purge/",
        body_of(TickData),
        StatusRoutes.purge,
        "Purge old images now",
        answers={200: PurgeReport, 202: TickPublished},
        problems=(400, 401, 403, 406, 408, 413, 415, 503),
    ),
    Operation(
        "status_sweep",
        "POST",
        "/api/status/sweep/",
        body_of(TickData),
        StatusRoutes.sweep,
        "Compare files and records now",
        answers={200: SweepReport, 202: TickPublished},
        problems=(400, 401, 403, 406, 408, 413, 415, 503),
    ),
)
GROUP: Final = RouteGroup(StatusRoutes, OPERATIONS)


def _letter(letter: DeadLetter) -> DeadLetterStatus:
    return DeadLetterStatus(id=letter.id, died_at=letter.died_at, queue=letter.queue, reason=letter.reason)
