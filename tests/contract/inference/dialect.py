"""What the contract suite needs to know of a dialect."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from common.domain.errors import InferenceError
from common.domain.images import Image
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from services.generator.inference.connect import connect_inference
from services.generator.inference.job import Job, job_of
from services.generator.inference.port import GeneratedImage, InferenceBackend
from tests.contract.inference.cutting_proxy import CuttingProxy
from tests.engines.engine import EngineFake, EngineFault
from tests.making import a_job

MAX_BYTES = 100_000
TIMEOUT_S = 5.0


class EngineUnderTest(ABC):
    """A fake server of one dialect, with one interface for the suite."""

    scheme = ""  # of INFERENCE_SERVICE_URL, with its plus sign
    query = ""
    models: tuple[str, ...] = ("sdxl",)
    sampler = "Euler"
    waits_for_an_idle_server = False  # the back end sends no order while the server works for others

    @property
    @abstractmethod
    def port(self) -> int: ...

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    async def restart(self) -> None:
        """End as a killed process does, and start again at the same address."""

    @abstractmethod
    def hold(self) -> None:
        """Let each painting wait after its first step, until `release`."""

    @abstractmethod
    def take_time(self) -> None:
        """Let each step take long enough to be reported."""

    @property
    @abstractmethod
    def held(self) -> asyncio.Event: ...

    @abstractmethod
    def release(self) -> None: ...

    @property
    @abstractmethod
    def begun(self) -> int:
        """How many paintings have begun."""

    @property
    @abstractmethod
    def painted(self) -> list[int]:
        """The seeds of the paintings that ran to their end."""

    @property
    @abstractmethod
    def stopped(self) -> list[int]:
        """The seeds of the paintings that were stopped, or removed before they began."""

    @abstractmethod
    def fail(self, fault: EngineFault) -> None:
        """Let the next orders meet this fault, until `recover`."""

    @abstractmethod
    def recover(self) -> None: ...

    @abstractmethod
    def set_models(self, *names: str) -> None: ...

    def model(self, name: str) -> str:
        """The name of an additional model, in the form that the server uses."""
        return name

    def job(self, **fields: Any) -> Job:
        """A job that the server accepts, with another seed in each test."""
        wanted = {"model": self.models[0], "sampler": self.sampler} | fields
        return replace(a_job(), **wanted)

    def job_of(self, image: Image) -> Job:
        """The job of a record, with a model that the server has."""
        return replace(job_of(image, deployment="a deployment"), model=self.models[0], sampler=self.sampler)


class FakeUnderTest(EngineUnderTest):
    """An engine whose fake is an `EngineFake`; a dialect sets the class attributes, and `set_models`."""

    def __init__(self, engine: EngineFake) -> None:
        self.engine = engine

    def seed_of(self, order: dict) -> int:
        return int(order["seed"])

    @property
    def port(self) -> int:
        return int(self.engine.url.rpartition(":")[2])

    async def start(self) -> None:
        await self.engine.start()

    async def stop(self) -> None:
        self.engine.release()
        await self.engine.stop()

    async def restart(self) -> None:
        await self.engine.restart()

    def hold(self) -> None:
        self.engine.hold()

    def take_time(self) -> None:
        self.engine.step_s = 0.03

    @property
    def held(self) -> asyncio.Event:
        return self.engine.held

    def release(self) -> None:
        self.engine.release()

    @property
    def begun(self) -> int:
        return len(self.engine.painted) + len(self.engine.stopped) + len(self.engine.running)

    @property
    def painted(self) -> list[int]:
        return [self.seed_of(order) for order in self.engine.painted]

    @property
    def stopped(self) -> list[int]:
        return [self.seed_of(order) for order in self.engine.stopped]

    def fail(self, fault: EngineFault) -> None:
        self.engine.always(fault)

    def recover(self) -> None:
        self.engine.always(None)


@dataclass(frozen=True)
class DialectUnderTest:
    """One entry of the suite. `lacks` names what the dialect cannot do, with the reason; each is a strict xfail."""

    name: str
    make: Callable[[], EngineUnderTest]
    lacks: Mapping[str, str] = field(default_factory=dict)


@dataclass
class DialectBench:
    """A back end, connected through a proxy to the engine under test."""

    dialect: DialectUnderTest
    engine: EngineUnderTest
    backend: InferenceBackend
    proxy: CuttingProxy
    connect: Callable[..., Awaitable[InferenceBackend]]  # as another generator, perhaps with other settings

    def job(self, **fields: Any) -> Job:
        return self.engine.job(**fields)

    def job_of(self, image: Image) -> Job:
        return self.engine.job_of(image)

    async def is_up(self) -> bool:
        try:
            await self.backend.capabilities(fresh=True)
        except InferenceError:
            return False
        return True

    async def paint(self, job: Job | None = None) -> GeneratedImage:
        return await self.backend.generate(job or self.job(), ignore)

    @asynccontextmanager
    async def painting(self, job: Job, backend: InferenceBackend | None = None) -> AsyncIterator[asyncio.Task]:
        """A call that paints the job, which the server holds at its first step."""
        self.engine.hold()
        call = asyncio.create_task((backend or self.backend).generate(job, ignore))
        try:
            await asyncio.wait_for(self.engine.held.wait(), 5)
            yield call
        finally:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)


@asynccontextmanager
async def bench_of(dialect: DialectUnderTest, **settings: str) -> AsyncIterator[DialectBench]:
    engine = dialect.make()
    given = {"INFERENCE_TIMEOUT": f"{TIMEOUT_S:g}", "MAX_IMAGE_FILE_SIZE": str(MAX_BYTES), **settings}
    async with contextlib.AsyncExitStack() as stack:
        await engine.start()
        stack.push_async_callback(engine.stop)
        proxy = await stack.enter_async_context(CuttingProxy.before(engine.port))

        async def connect(**more: str) -> InferenceBackend:
            http = await stack.enter_async_context(aiohttp.ClientSession())
            url = f"{engine.scheme}http://127.0.0.1:{proxy.port}{engine.query}"
            return connect_inference(url, http=http, settings=read_settings(given | more), clock=SystemClock())

        yield DialectBench(dialect, engine, await connect(), proxy, connect)


def ignore(_step: int, _steps: int) -> None:
    """For tests without progress."""
