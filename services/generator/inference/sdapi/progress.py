"""Progress of an order under `/sdapi/v1`."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

from common.domain.errors import InferenceError
from services.generator.inference.encoded_pictures import decoded_preview
from services.generator.inference.job import Job
from services.generator.inference.port import OnPreview, OnProgress
from services.generator.inference.sdapi.program import Server
from services.generator.inference.service_client import ServiceClient

log = logging.getLogger(__name__)

INTERVAL_S: Final = 0.5  # the web pages of these programs ask as often
_FIRST_S: Final = 0.05  # a turbo model paints within a second
_ASK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the server as a whole does; A1111 calls the number of jobs -1 while one begins."""

    is_idle: bool
    is_interrupted: bool
    step: int
    steps: int
    preview: object = None


async def server_state(client: ServiceClient, *, with_preview: bool = False) -> ServerState:
    """Raises the errors of `ask`."""
    skip = "false" if with_preview else "true"
    found = _object(await client.ask(f"/sdapi/v1/progress?skip_current_image={skip}", limit_s=_ASK_S))
    state = _object(found.get("state"))
    return ServerState(
        is_idle=not state.get("job_count") and not state.get("job"),
        is_interrupted=state.get("interrupted") is True,
        step=_number(state.get("sampling_step")),
        steps=_number(state.get("sampling_steps")),
        preview=found.get("current_image"),
    )


async def is_working_on(job: Job, client: ServiceClient, server: Server, *, was_idle: bool) -> bool:
    """Whether this order is the one that the server paints now.

    A1111 and Forge know our name for it. SD.Next does not: there the order is ours if the server was idle when it was
    sent, is not answered yet, and has our number of steps.
    """
    if server.has_task_ids:
        body = {"id_task": job.remote_id, "live_preview": False}
        found = await client.ask("/internal/progress", method="POST", body=body, limit_s=_ASK_S)
        return _object(found).get("active") is True
    state = await server_state(client)
    return was_idle and not state.is_idle and state.steps in {0, job.steps}


async def watch(
    job: Job,
    client: ServiceClient,
    server: Server,
    on_progress: OnProgress,
    on_preview: OnPreview | None,
) -> None:
    """Report the progress until cancelled. A failure to ask is not one of the order."""
    last_preview: object = -1
    pause_s = _FIRST_S
    while True:
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, INTERVAL_S)
        try:
            if server.has_task_ids:
                last_preview = await _report_task(job, client, on_progress, on_preview, last_preview)
            else:
                last_preview = await _report_state(job, client, on_progress, on_preview, last_preview)
        except InferenceError as error:
            log.debug("no progress from the inference service: %s", error.detail)


async def _report_task(
    job: Job, client: ServiceClient, on_progress: OnProgress, on_preview: OnPreview | None, last_preview: object
) -> object:
    body = {"id_task": job.remote_id, "id_live_preview": last_preview, "live_preview": on_preview is not None}
    found = _object(await client.ask("/internal/progress", method="POST", body=body, limit_s=_ASK_S))
    share = found.get("progress")
    if found.get("active") is not True or not isinstance(share, int | float):
        return last_preview
    if step := round(min(max(share, 0.0), 1.0) * job.steps):
        on_progress(step, job.steps)
    if on_preview is not None and (content := await decoded_preview(found.get("live_preview"))):
        on_preview(content)
    latest = found.get("id_live_preview")
    return latest if isinstance(latest, int) else last_preview


async def _report_state(
    job: Job, client: ServiceClient, on_progress: OnProgress, on_preview: OnPreview | None, last_preview: object
) -> object:
    state = await server_state(client, with_preview=on_preview is not None)
    if state.is_idle or state.steps != job.steps or not state.step:
        return last_preview
    on_progress(state.step, state.steps)
    if on_preview is not None and state.step != last_preview and (content := await decoded_preview(state.preview)):
        on_preview(content)
    return state.step


def _object(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value <= 1_000_000 else 0
