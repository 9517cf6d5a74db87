"""Client of ComfyUI: a back end whose server keeps working without its client.

    look in /queue, /history ──▶ not there: POST /prompt ──▶ follow the websocket ──▶ /history ──▶ /view
                             └─▶ there: an earlier worker began it; take it over

Source: ComfyUI 0.12.1; docs/inference.md has what was observed on it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from yarl import URL

from common.application.capabilities import Capabilities
from common.domain.errors import Denied, InferenceError, Misconfigured, Transient
from services.generator.inference.answers import timed_out
from services.generator.inference.capabilities_cache import RETRY_INTERVAL_S, CapabilitiesCache
from services.generator.inference.comfyui.follower import RunFollower
from services.generator.inference.comfyui.outcome import Painted, outcome_of, refusal_of
from services.generator.inference.comfyui.prompts import require_harmless
from services.generator.inference.comfyui.runnable import RunnableWorkflows, WorkflowUnusable, runnable_workflows
from services.generator.inference.comfyui.samplers import SamplerChoice
from services.generator.inference.comfyui.server import ComfyuiServer
from services.generator.inference.comfyui.workflow import (
    SHIPPED,
    Workflow,
    read_workflow,
    without_models,
    workflow_of_model,
)
from services.generator.inference.job import Job
from services.generator.inference.own_timeout import OwnTimeout
from services.generator.inference.port import BackendOptions, GeneratedImage, OnPreview, OnProgress

log = logging.getLogger(__name__)

_WEBSOCKET_S: Final = 2.0  # the longest wait for the websocket before the prompt is sent without it
_POLL_S: Final = 1.0
_POLL_BESIDE_WEBSOCKET_S: Final = 5.0
_MAX_FAILED_POLLS: Final = 3  # in a row
_SUBMIT_S: Final = 1.0  # how long a cancelled call waits for the answer to its prompt
_STOP_S: Final = 2.0
_STOP_TRIES: Final = 3  # a queued run may start between two requests


class RunLost(Transient):
    """The server has neither the run nor its result; the same id may be run again."""


class ComfyuiBackend:
    """One ComfyUI server: `comfyui+http://host:8188?workflow=file.json`, where the parameter may be repeated.

    A workflow is the name of a shipped one, or a file. Without the parameter, all that are shipped are used.

    Raises:
        Misconfigured: a workflow cannot be read, or the URL has another parameter.
    """

    def __init__(self, options: BackendOptions) -> None:
        self._options = options
        base, names = _parsed_url(options.url)
        self._server = ComfyuiServer(options.http, url=base, api_key=options.api_key, clock=options.clock)
        self._are_chosen = bool(names)
        of_models = options.workflows
        self._workflows = [workflow_of_model(model, name) for model, files in of_models.items() for name in files]
        self._workflows += [without_models(read_workflow(name), of_models) for name in names or SHIPPED]
        self._capabilities = CapabilitiesCache(self._ask, options.clock)
        self._runnable: RunnableWorkflows | None = None

    async def capabilities(self, *, fresh: bool = False) -> Capabilities:
        return await self._capabilities.get(fresh=fresh)

    async def generate(self, job: Job, on_progress: OnProgress, on_preview: OnPreview | None = None) -> GeneratedImage:
        limit = OwnTimeout.begin(self._options.clock, self._options.timeout_s)
        try:
            async with asyncio.timeout(self._options.timeout_s):
                workflow, sampler = await self._choose(job)
                return await self._run(job, workflow, sampler, on_progress, on_preview)
        except TimeoutError as error:
            if limit.is_on_time():
                await self.stop(job)
            raise timed_out(self._options.timeout_s, needs_new_id=True) from error

    async def stop(self, job: Job) -> None:
        try:
            async with asyncio.timeout(_STOP_S):
                await self._stop(job.remote_id)
        except (InferenceError, TimeoutError) as error:
            log.warning("the work was not stopped on the inference service: %s", error)

    async def _stop(self, prompt_id: str) -> None:
        for _ in range(_STOP_TRIES):
            state = await self._server.queue_state(prompt_id)
            if state.is_running:
                await self._server.interrupt(prompt_id)
                log.info("the work was interrupted on the inference service")
                return
            if not state.is_pending:
                return
            await self._server.remove_from_queue(prompt_id)

    async def _ask(self) -> Capabilities:
        """Ask for each class of node that a workflow has, and for the version."""
        names = {node["class_type"] for workflow in self._workflows for node in workflow.graph.values()}
        version = await self._server.version()
        found = {name: await self._server.node_class(name) for name in sorted(names)}
        classes = {name: each for name, each in found.items() if each is not None}
        try:
            runnable = runnable_workflows(self._workflows, classes, all_needed=self._are_chosen)
        except WorkflowUnusable as unusable:
            raise Denied(str(unusable)) from unusable
        self._runnable = RunnableWorkflows(tuple(runnable), version)
        return self._runnable.capabilities()

    async def _choose(self, job: Job) -> tuple[Workflow, SamplerChoice]:
        """The workflow for the job. What the server can paint is read again before a job is refused."""
        require_harmless(job)
        await self._capabilities.get_known()
        assert self._runnable is not None
        with suppress(InferenceError):
            return self._runnable.choose(job)
        await self._capabilities.get(max_age_s=RETRY_INTERVAL_S)
        return self._runnable.choose(job)

    async def _run(
        self,
        job: Job,
        workflow: Workflow,
        sampler: SamplerChoice,
        on_progress: OnProgress,
        on_preview: OnPreview | None,
    ) -> GeneratedImage:
        follower = RunFollower(job.remote_id, workflow.stages, job.steps, on_progress, on_preview)
        url = self._server.websocket_url(job.remote_id)
        following = asyncio.create_task(follower.run(self._options.http, url, self._server.headers))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_WEBSOCKET_S):
                    await follower.tried.wait()
            painted = await self._outcome(job, workflow, sampler, follower)
        finally:
            following.cancel()
            await asyncio.wait([following])
        content = await self._server.view(painted.file, max_bytes=self._options.max_bytes)
        return GeneratedImage(content, seed=painted.seed, model=job.model, painting_s=painted.painting_s)

    async def _outcome(self, job: Job, workflow: Workflow, sampler: SamplerChoice, follower: RunFollower) -> Painted:
        """Begin the run unless the server has it, then wait for its end."""
        if await self._is_known(job.remote_id):
            log.info("the run of an earlier worker is taken over from the inference service")
        else:
            await self._begin(job, workflow, sampler)
        failed = 0
        while True:
            try:
                if (painted := await self._look(job, workflow)) is not None:
                    return painted
                failed = 0
            except Transient as error:
                failed += 1
                if isinstance(error, RunLost) or error.needs_new_id or failed >= _MAX_FAILED_POLLS:
                    raise
            pause_s = _POLL_BESIDE_WEBSOCKET_S if follower.is_connected else _POLL_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await follower.changed.wait()
                    follower.changed.clear()

    async def _is_known(self, prompt_id: str) -> bool:
        """Whether the server has this run: the same id would run twice.

        The queue first: a run that leaves it meanwhile is in the history.
        """
        state = await self._server.queue_state(prompt_id)
        return state.has_it or await self._server.history(prompt_id) is not None

    async def _begin(self, job: Job, workflow: Workflow, sampler: SamplerChoice) -> None:
        submitting = asyncio.ensure_future(self._server.submit(workflow.filled(job, sampler), job.remote_id))
        try:
            answer = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            # a prompt on its way would be queued after `stop` has looked for it
            await asyncio.wait([submitting], timeout=_SUBMIT_S)
            submitting.cancel()
            raise
        if answer.prompt_id != job.remote_id:
            await self._server.remove_from_queue(answer.prompt_id)
            raise Denied("this ComfyUI is too old: it gives a prompt another id than the one that is asked for")
        refusal = refusal_of(answer.problem, workflow) if answer.problem is not None else None
        if refusal is not None:
            self._capabilities.expire()
            if answer.is_queued:
                await self.stop(job)
            raise refusal

    async def _look(self, job: Job, workflow: Workflow) -> Painted | None:
        """The outcome of the run, if it has ended.

        Raises:
            Transient: it failed, or the server does not know it: it was restarted, or somebody emptied its queue.
            BadImage: it succeeded without a picture.
        """
        entry = await self._server.history(job.remote_id)
        if entry is None:
            if (await self._server.queue_state(job.remote_id)).has_it:
                return None
            entry = await self._server.history(job.remote_id)
        if entry is None:
            raise RunLost("the inference service has lost the run; it may have been restarted")
        return outcome_of(entry, workflow)


def _parsed_url(url: str) -> tuple[URL, list[str]]:
    """The URL of the server, and the names of the workflows."""
    parsed = URL(url.partition("+")[2])
    if unknown := parsed.query.keys() - {"workflow"}:
        raise Misconfigured(f"has no parameter {', '.join(sorted(unknown))}", code="bad_setting")
    return parsed.with_query(None).with_fragment(None), parsed.query.getall("workflow", [])
