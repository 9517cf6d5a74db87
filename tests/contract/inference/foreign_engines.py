"""The engines of the dialects that other programs speak: `/sdapi/v1`, cog, OpenAI's route."""

import asyncio
from dataclasses import replace
from typing import Any

from common.domain.images import Image
from services.generator.inference.job import Job
from tests.conftest import missing
from tests.contract.inference.dialect import EngineUnderTest, FakeUnderTest
from tests.engines.cog import Cog
from tests.engines.engine import EngineFault
from tests.engines.openai import FakeMaker, OpenAi
from tests.engines.sdapi import SdApi
from tests.engines.sdapi_programs import FakeProgram
from tests.servers import cog as cog_servers
from tests.waiting import until


class SdApiUnderTest(FakeUnderTest):
    scheme = "sdapi+"
    program = FakeProgram.A1111
    models = ("tiny-sd",)
    waits_for_an_idle_server = True

    def __init__(self) -> None:
        self.sdapi = SdApi(self.program)
        self.set_models(*self.models)
        super().__init__(self.sdapi)

    def set_models(self, *names: str) -> None:
        self.sdapi.models = [name.removeprefix("Diffusers/") for name in names]
        self.sdapi.loaded = self.sdapi.models[0]


class SdNextUnderTest(SdApiUnderTest):
    program = FakeProgram.SDNEXT
    models = ("Diffusers/tiny-sd",)

    def model(self, name: str) -> str:
        return f"Diffusers/{name}"


class SdServerUnderTest(SdApiUnderTest):
    program = FakeProgram.SDSERVER
    waits_for_an_idle_server = False


class CogUnderTest(FakeUnderTest):
    scheme = "cog+"
    query = "?model=sdxl"

    def __init__(self) -> None:
        super().__init__(Cog())

    def set_models(self, *names: str) -> None:
        """A container has the model that it was built with."""


class RealCog(EngineUnderTest):
    """A real cog server, shared by all tests; its model does what files tell it."""

    scheme = "cog+"
    query = "?model=sdxl"

    def __init__(self) -> None:
        if cog_servers.version() is None:
            missing("no cog: run make servers")
        self._held = asyncio.Event()
        self._tasks: list[asyncio.Task] = []

    @property
    def port(self) -> int:
        return int(self._server.url.rpartition(":")[2])

    async def start(self) -> None:
        self._server = await asyncio.to_thread(cog_servers.server_of_the_run)
        self._server.reset()

    async def stop(self) -> None:
        """Leave the server idle: the next test has the same one."""
        self.release()
        self.recover()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._server.wait_until_ready)

    async def restart(self) -> None:
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.start)

    def hold(self) -> None:
        self._held = asyncio.Event()
        (self._server.control / "held").unlink(missing_ok=True)
        (self._server.control / "hold").touch()
        self._tasks.append(asyncio.create_task(self._watch(self._held)))

    async def _watch(self, held: asyncio.Event) -> None:
        await until((self._server.control / "held").exists)
        held.set()

    def take_time(self) -> None:
        """Its steps are reported, however short they are."""

    @property
    def held(self) -> asyncio.Event:
        return self._held

    def release(self) -> None:
        (self._server.control / "hold").unlink(missing_ok=True)

    @property
    def begun(self) -> int:
        return len(self._server.seeds("began"))

    @property
    def painted(self) -> list[int]:
        return self._server.seeds("painted")

    @property
    def stopped(self) -> list[int]:
        return self._server.seeds("stopped")

    def fail(self, fault: EngineFault) -> None:
        (self._server.control / "fault").write_text(fault)
        if fault is EngineFault.RESTART:
            self._tasks.append(asyncio.create_task(self._restart_in_the_middle()))

    async def _restart_in_the_middle(self) -> None:
        await until(lambda: bool(self._server.seeds("began")))
        await self.restart()

    def recover(self) -> None:
        (self._server.control / "fault").unlink(missing_ok=True)

    def set_models(self, *names: str) -> None:
        """It has the model that it was started with."""


class OpenAiUnderTest(FakeUnderTest):
    scheme = "openai+"
    maker = FakeMaker.LOCALAI
    models = ("dreamshaper",)

    def __init__(self) -> None:
        self.openai = OpenAi(self.maker)
        self.openai.models = list(self.models)
        super().__init__(self.openai)

    def set_models(self, *names: str) -> None:
        self.openai.models = list(names)


class VllmUnderTest(OpenAiUnderTest):
    maker = FakeMaker.VLLM


class SdServerOpenAiUnderTest(OpenAiUnderTest):
    maker = FakeMaker.SDSERVER
    models = ("sd-cpp-local",)

    def seed_of(self, order: dict) -> int:
        return int(self.openai.extra(order)["seed"])


class OpenAiItself(OpenAiUnderTest):
    """It has neither seed nor steps: a number in the prompt, which is not painted, names an order for the suite."""

    maker = FakeMaker.OPENAI
    models = ("gpt-image-2",)

    def job(self, **fields: Any) -> Job:
        return self._numbered(super().job(**{**fields, "steps": 30}))

    def job_of(self, image: Image) -> Job:
        return self._numbered(replace(super().job_of(image), steps=30))

    def model(self, name: str) -> str:
        """Models that do not paint are listed as well, and left out."""
        return f"gpt-image-2-{name}"

    def _numbered(self, job: Job) -> Job:
        return replace(job, prompt=f"{job.prompt} #{job.seed}")

    def seed_of(self, order: dict) -> int:
        return int(order["prompt"].rpartition("#")[2])


FOREIGN_ENGINES = {
    "A1111": SdApiUnderTest,
    "SD.Next": SdNextUnderTest,
    "sd-server": SdServerUnderTest,
    "cog": RealCog,
    "cog, fake": CogUnderTest,
    "LocalAI": OpenAiUnderTest,
    "vLLM-Omni": VllmUnderTest,
    "sd-server /v1": SdServerOpenAiUnderTest,
    "OpenAI": OpenAiItself,
}

_NO_ADOPTION = {
    "adoption": "an order cannot be found again",
    "finished": "a picture is sent once, to the connection that ordered it",
}
_ONE_ANSWER = {
    "progress": "the picture is the only answer",
    "previews": "the picture is the only answer",
}
_NO_HIRES = {"hires_fix": "the dialect has no such setting, or none that was tried"}
_GOES_ON = {"cancel": "the program finishes what it has begun, with or without its client"}
_FOLLOWS = {"survival": "the end of the connection ends the work"}

_COG = (
    _NO_ADOPTION
    | _FOLLOWS
    | {
        "previews": "the protocol has outputs only",
        "hires_fix": "the model has no such input",
        "model_list": "a container has one model, which the URL names",
    }
)
_IMPOSSIBLE_FOR_COG = ("busy", "server_error", "unauthorized", "redirect", "not_json", "not_base64")

FOREIGN_LACKS: dict[str, dict[str, str]] = {
    "A1111": _NO_ADOPTION,
    "SD.Next": _NO_ADOPTION | _NO_HIRES,
    "sd-server": _NO_ADOPTION | _NO_HIRES | _ONE_ANSWER | _GOES_ON,
    "cog": _COG | {f"fault {name}": "a real server does not answer so" for name in _IMPOSSIBLE_FOR_COG},
    "cog, fake": _COG,
    "LocalAI": _NO_ADOPTION | _NO_HIRES | _ONE_ANSWER | _FOLLOWS,
    "vLLM-Omni": _NO_ADOPTION | _NO_HIRES | _ONE_ANSWER | _GOES_ON,
    "sd-server /v1": _NO_ADOPTION | _NO_HIRES | _ONE_ANSWER | _GOES_ON,
    "OpenAI": _NO_ADOPTION
    | _GOES_ON
    | {
        "seed": "OpenAI has no seed",
        "progress": "the stream has partial images, but no steps",
        "negative_prompt": "OpenAI has none",
        "hires_fix": "OpenAI has none",
    },
}
