"""The engines of the dialects that other programs speak: `/sdapi/v1`, cog, OpenAI's route."""

from dataclasses import replace
from typing import Any

from common.domain.images import Image
from services.generator.inference.job import Job
from tests.contract.inference.dialect import FakeUnderTest
from tests.engines.cog import Cog
from tests.engines.openai import FakeMaker, OpenAi
from tests.engines.sdapi import FakeProgram, SdApi


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
    "a1111": SdApiUnderTest,
    "sdnext": SdNextUnderTest,
    "sd-server": SdServerUnderTest,
    "cog": CogUnderTest,
    "localai": OpenAiUnderTest,
    "vllm-omni": VllmUnderTest,
    "sd-server, /v1": SdServerOpenAiUnderTest,
    "openai": OpenAiItself,
}

_NO_ADOPTION = {
    "adoption": "an order cannot be found again",
    "finished": "a picture is sent once, to the connection that ordered it",
}
_ONE_ANSWER = {
    "progress": "the picture is the only answer",
    "previews": "the picture is the only answer",
}
_NO_HIRES = {"hires_fix": "no such setting is known of this program"}
_GOES_ON = {"cancel": "the program finishes what it has begun, with or without its client"}
_FOLLOWS = {"survival": "the end of the connection ends the work"}

FOREIGN_LACKS: dict[str, dict[str, str]] = {
    "a1111": _NO_ADOPTION,
    "sdnext": _NO_ADOPTION | _NO_HIRES,
    "sd-server": _NO_ADOPTION | _NO_HIRES | _ONE_ANSWER | _GOES_ON,
    "cog": _NO_ADOPTION
    | _FOLLOWS
    | {
        "previews": "the protocol has outputs only",
        "hires_fix": "the model of the fake has no such input",
        "model_list": "a container has one model, which the URL names",
    },
    "localai": _NO_ADOPTION | _NO_HIRES | _ONE_ANSWER | _FOLLOWS,
    "vllm-omni": _NO_ADOPTION | _NO_HIRES | _ONE_ANSWER | _GOES_ON,
    "sd-server, /v1": _NO_ADOPTION | _NO_HIRES | _ONE_ANSWER | _GOES_ON,
    "openai": _NO_ADOPTION
    | _GOES_ON
    | {
        "seed": "OpenAI has no seed",
        "progress": "the stream has partial images, but no steps",
        "negative_prompt": "OpenAI has none",
        "hires_fix": "OpenAI has none",
    },
}
