"""The dialects of the suite: a new one adds its engine to `ENGINES`, its gaps to `LACKS`."""

import asyncio

import pytest

from tests.contract.inference.dialect import DialectUnderTest, EngineUnderTest, FakeUnderTest
from tests.contract.inference.foreign_engines import FOREIGN_ENGINES, FOREIGN_LACKS
from tests.engines.comfyui import Comfyui
from tests.engines.engine import EngineFault
from tests.engines.native import Native


class NativeUnderTest(FakeUnderTest):
    def __init__(self) -> None:
        self.native = Native()
        super().__init__(self.native)

    def set_models(self, *names: str) -> None:
        self.native.models = list(names)


class ComfyuiUnderTest(EngineUnderTest):
    scheme = "comfyui+"
    models = ("sd_xl_base_1.0.safetensors",)

    def __init__(self) -> None:
        self.fake = Comfyui()

    @property
    def port(self) -> int:
        return self.fake.port

    async def start(self) -> None:
        await self.fake.start()

    async def stop(self) -> None:
        await self.fake.stop()

    async def restart(self) -> None:
        await self.fake.restart()

    def hold(self) -> None:
        self.fake.hold()

    def take_time(self) -> None:
        """Its steps are reported, however short they are."""

    @property
    def held(self) -> asyncio.Event:
        return self.fake.held

    def release(self) -> None:
        self.fake.release()

    @property
    def begun(self) -> int:
        return len(self.fake.began)

    @property
    def painted(self) -> list[int]:
        return [self._seed(prompt_id) for prompt_id in self.fake.painted]

    @property
    def stopped(self) -> list[int]:
        return [self._seed(prompt_id) for prompt_id in self.fake.interrupted + self.fake.deleted]

    def _seed(self, prompt_id: str) -> int:
        return int(self.fake.graphs[prompt_id]["3"]["inputs"]["seed"])

    def fail(self, fault: EngineFault) -> None:
        self.fake.fail(fault)

    def recover(self) -> None:
        self.fake.recover()

    def set_models(self, *names: str) -> None:
        self.fake.checkpoints = list(names)


ENGINES = {"native": NativeUnderTest, "comfyui": ComfyuiUnderTest, **FOREIGN_ENGINES}
LACKS: dict[str, dict[str, str]] = {
    "native": {
        "survival": "the end of the connection is the sign to stop",
        "adoption": "work in progress ends with its connection; a finished picture is found by its key",
    },
    "comfyui": {},
    **FOREIGN_LACKS,
}
DIALECTS = {name: DialectUnderTest(name, make, LACKS[name]) for name, make in ENGINES.items()}

# one of each kind is never long: SD.Next and sd-server are much as A1111, the others as OpenAI
others_are_long = pytest.mark.long_unless("native", "comfyui", "A1111", "cog", "OpenAI")
