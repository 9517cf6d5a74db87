"""One back end of this generator, with what is known about it at this moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

import aiohttp

from common.application.capabilities import Capabilities, Feature, Model
from common.application.fleet.announcements import BackEndState, Catalogue, CircuitState, catalogue_of
from common.domain.errors import Denied, InferenceError, Unreachable
from common.domain.pools import DEFAULT_POOL
from common.domain.texts import clean_text
from common.runtime import metrics
from common.runtime.clock import Clock, SystemClock
from common.runtime.settings import Settings
from services.generator.backends.circuit import Circuit
from services.generator.backends.definition import BackendDefinition
from services.generator.backends.named_models import NamedModels
from services.generator.inference.connect import connect_backend
from services.generator.inference.port import InferenceBackend

log = logging.getLogger(__name__)

_MAX_DIALECT: Final = 40


class Backend:
    """The circuit, the models and the jobs of one back end. `on_change` is called when it may take other images."""

    def __init__(self, definition: BackendDefinition, inference: InferenceBackend, settings: Settings) -> None:
        self.name = definition.name
        self.concurrency = definition.concurrency
        self.inference = inference
        self.circuit = Circuit(
            failures=settings.circuit_failures,
            pause_s=settings.circuit_pause,
            ask=self._ask_now,
            name=definition.name,
        )
        self.offered: Capabilities | None = None  # the latest answer; None until the first one
        self.is_asked = asyncio.Event()  # it has answered, or has failed to
        self.on_change: Callable[[], None] = lambda: None
        self._catalogue: Catalogue | None = None
        self._configured_models = frozenset(definition.models)
        self._jobs = 0

    @property
    def jobs(self) -> int:
        """How many images it has from this generator."""
        return self._jobs

    @jobs.setter
    def jobs(self, jobs: int) -> None:
        self._jobs = jobs
        metrics.backend_jobs.labels(self.name).set(jobs)

    @property
    def is_open(self) -> bool:
        return self.circuit.is_open

    @property
    def adopts(self) -> bool:
        """Whether it continues the work that a worker began there which is gone."""
        return self.offered is not None and Feature.ADOPTION in (self.offered.features or ())

    @property
    def paints_at_once(self) -> int:
        """The images that it paints side by side; further jobs wait on its server."""
        announced = self.offered.concurrency if self.offered is not None else None
        return min(announced or self.concurrency, self.concurrency)

    @property
    def is_known(self) -> bool:
        return self._catalogue is not None

    @property
    def model_names(self) -> frozenset[str] | None:
        """The models that it lists; None if it takes any, or has not answered yet."""
        if self._catalogue is None or self._catalogue.unlisted is not None:
            return None
        return frozenset(model.id for model in self._catalogue.models)

    def find(self, model: str) -> Model | None:
        """The model as it is painted here; None if it is not. Until the first answer every model may be here."""
        if self._catalogue is not None:
            return self._catalogue.find(model)
        return Model(id=model) if not self._configured_models or model in self._configured_models else None

    def state(self) -> BackEndState:
        """What the heartbeat says."""
        dialect = self.offered.dialect if self.offered is not None else None
        return BackEndState(
            name=self.name,
            dialect=clean_text(dialect or "", _MAX_DIALECT) or None,
            circuit=CircuitState.OPEN if self.is_open else CircuitState.CLOSED,
            concurrency=self.concurrency,
        )

    async def refresh(self, *, opens_circuit: bool) -> None:
        """Read what it offers; an answer may be a minute old.

        `opens_circuit`: a server that cannot be reached, or denies us, gets no images until it answers.
        """
        try:
            self._take(await self.inference.capabilities())
        except InferenceError as error:
            reason = error.reason if isinstance(error, Denied) else error.detail
            log.debug("%s does not say what it can paint: %s", self.name, reason)
            if opens_circuit and isinstance(error, Unreachable | Denied) and not self.is_open:
                self.circuit.record_failure(error)
        finally:
            self.is_asked.set()

    async def _ask_now(self) -> None:
        """Raises InferenceError."""
        self._take(await self.inference.capabilities(fresh=True))

    def _take(self, offered: Capabilities) -> None:
        if offered != self.offered:
            self.offered = offered
            self._catalogue = catalogue_of([offered], pool=DEFAULT_POOL)
            self.on_change()


async def require_valid(definitions: Iterable[BackendDefinition], settings: Settings) -> None:
    """Refuse a wrong URL at the start, before anything else is opened. Nothing is sent. Raises Misconfigured."""
    async with aiohttp.ClientSession() as http:
        for definition in definitions:
            connected(definition, http=http, settings=settings, clock=SystemClock())


def connected(
    definition: BackendDefinition, *, http: aiohttp.ClientSession, settings: Settings, clock: Clock
) -> InferenceBackend:
    """The back end with our names of its models. Nothing is sent yet, and `http` stays the caller's.

    Raises:
        Misconfigured: names where the back end is configured.
    """
    backend = connect_backend(
        definition.url,
        http=http,
        settings=settings,
        clock=clock,
        api_key=definition.api_key,
        workflows=definition.workflows,
        origin=definition.origin,
    )
    return NamedModels(backend, definition.models) if definition.models else backend
