"""The port to an inference back end, a server that paints images.

The docstrings are the contract that `tests/contract/inference/` runs over each implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp

from common.application.capabilities import Capabilities
from common.runtime.clock import Clock
from services.generator.inference.job import Job

OnProgress = Callable[[int, int], None]  # steps done, steps in all; not checked
OnPreview = Callable[[bytes], None]  # an encoded picture of the current state; not checked


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What `connect_inference` makes a back end from, whatever its dialect."""

    http: aiohttp.ClientSession  # of all work of the process
    url: str = field(repr=False)  # with the scheme and the parameters of the dialect; it may hold a password
    api_key: str | None = field(repr=False)
    timeout_s: float  # of one picture
    max_bytes: int  # of one picture
    clock: Clock
    workflows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of ComfyUI: the files of single models


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """The result of a job; what the server does not report is None."""

    content: bytes  # the encoded picture, which the caller still has to check, its size included
    seed: int | None = None
    model: str | None = None
    painting_s: float | None = None  # the server's own measurement


class InferenceBackend(Protocol):
    async def capabilities(self, *, fresh: bool = False) -> Capabilities:
        """What the server offers, at most a minute old; `fresh` asks it now.

        Raises:
            Unreachable, Transient, Denied: as `generate` raises them.
        """

    async def generate(self, job: Job, on_progress: OnProgress, on_preview: OnPreview | None = None) -> GeneratedImage:
        """Paint the job, or take over the work that an earlier call of any process began under its remote id.

        The callbacks report the progress, if the server does; without `on_preview`, previews are ignored.

        Cancelling the call means that nobody here follows the work any more; the work may be another worker's by then,
        so a server that works without its client goes on. `stop` ends the work. At a timeout of its own, the call
        stops the work before it raises, unless this process was stopped meanwhile: then the work may be another's too.

        A field of the job that the server cannot honour is refused with its name, never ignored.

        Raises:
            Unreachable: the server refuses the connection, or its name does not resolve.
            Transient: it timed out, broke off or is busy; `retry_after_s` is the wait that it asks for.
            Rejected: it refuses this request, and always will.
            Denied: it refuses every request of this generator: its key, its certificate, its URL or its workflow is
                wrong.
            BadImage: its answer is not a picture, or is larger than allowed.

        An error says with `needs_new_id` that the run under this remote id is over, and cannot be continued.
        """

    async def stop(self, job: Job) -> None:
        """End the work of this job on the server, and no other work, within a second where the server can.

        Called once nobody may need the work, after the call of `generate` was cancelled. It may have ended, or never
        begun. Raises no InferenceError.
        """
