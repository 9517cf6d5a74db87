"""The program that answers under `/sdapi/v1`, as it describes itself.

Sources: A1111 and Forge `modules/api/api.py`; SD.Next and sd-server as recorded in tests/transcripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from common.application.capabilities import Capabilities, Feature, Model
from common.domain.errors import Denied
from services.generator.inference.samplers import named_samplers
from services.generator.inference.service_client import ServiceClient

_GRID: Final = 64  # pixels: sd-server rounds sides up to it
_KARRAS: Final = "karras"


class Program(StrEnum):
    """The value is its name for people."""

    A1111 = "A1111"
    FORGE = "Forge"
    SDNEXT = "SD.Next"
    SDSERVER = "sd-server"


FEATURES: Final = {
    Program.A1111: tuple(Feature(each) for each in Feature if each is not Feature.ADOPTION),
    Program.FORGE: tuple(Feature(each) for each in Feature if each is not Feature.ADOPTION),
    Program.SDNEXT: (Feature.NEGATIVE_PROMPT, Feature.PROGRESS, Feature.PREVIEWS, Feature.CANCEL),
    Program.SDSERVER: (Feature.NEGATIVE_PROMPT,),
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model of the server: its title selects it, its hash says whether it was used."""

    title: str
    hash: str | None


@dataclass(frozen=True, slots=True)
class Server:
    """One server, as it described itself after its start."""

    program: Program
    checkpoints: Mapping[str, Checkpoint]  # by the name that a request uses
    samplers: Mapping[str, str]  # the server's name by the name that a request uses
    schedulers: frozenset[str]  # in lower case
    limits: Mapping[str, int]  # max_width and max_height, if it has them

    @property
    def has_task_ids(self) -> bool:
        """Whether the client names its order, and asks for the progress of this name."""
        return self.program in {Program.A1111, Program.FORGE}

    @property
    def has_progress(self) -> bool:
        return self.program is not Program.SDSERVER

    def capabilities(self) -> Capabilities:
        grid = _GRID if self.program is Program.SDSERVER else None
        width, height = self.limits.get("max_width"), self.limits.get("max_height")
        return Capabilities(
            engine=self.program,
            dialect="sdapi",
            models=tuple(Model(id=name, grid=grid, max_width=width, max_height=height) for name in self.checkpoints),
            samplers=tuple(self._sampler_names()),
            features=FEATURES[self.program],
            concurrency=1,
        )

    def _sampler_names(self) -> list[str]:
        names = list(self.samplers)
        if _KARRAS in self.schedulers:
            names += [f"{name} Karras" for name in names if name.startswith("DPM") and not name.endswith("Karras")]
        return names

    def sampler_fields(self, sampler: str) -> dict[str, str]:
        """`sampler_name`, and the `scheduler` that older names such as `DPM++ 2M Karras` hold."""
        if sampler in self.samplers:
            return {"sampler_name": self.samplers[sampler]}
        name, _, scheduler = sampler.rpartition(" ")
        if name in self.samplers and scheduler.lower() in self.schedulers:
            return {"sampler_name": self.samplers[name], "scheduler": scheduler.lower()}
        return {"sampler_name": sampler}


async def probe(client: ServiceClient) -> Server:
    """Ask the server what it is.

    Raises:
        Denied: it has no such routes, or refuses us.
        Unreachable, Transient: it does not answer.
    """
    samplers = await client.ask("/sdapi/v1/samplers")
    if not isinstance(samplers, list):
        raise Denied("there is no /sdapi/v1/samplers: start A1111 and Forge with --api, or correct the URL")
    native = await client.ask("/sdcpp/v1/capabilities")
    program = Program.SDSERVER if isinstance(native, dict) else await _program_with_progress(client)
    schedulers = await _schedulers(client) if program is not Program.SDNEXT else []  # SD.Next answers 500
    return Server(
        program=program,
        checkpoints=await ask_checkpoints(client),
        samplers=named_samplers(_texts(samplers, "name")),
        schedulers=frozenset(name.lower() for name in schedulers),
        limits=_limits(native),
    )


async def _program_with_progress(client: ServiceClient) -> Program:
    progress = await client.ask("/sdapi/v1/progress?skip_current_image=true")
    if isinstance(progress, dict) and "id" in progress:
        return Program.SDNEXT
    options = await client.ask("/sdapi/v1/options")
    is_forge = isinstance(options, dict) and any(name.startswith("forge_") for name in options)
    return Program.FORGE if is_forge else Program.A1111


async def _schedulers(client: ServiceClient) -> list[str]:
    try:
        return _texts(await client.ask("/sdapi/v1/schedulers"), "name")
    except Denied:
        return []


def _texts(found: Any, key: str) -> list[str]:
    entries = found if isinstance(found, list) else []
    return [each[key] for each in entries if isinstance(each, dict) and isinstance(each.get(key), str)]


async def ask_checkpoints(client: ServiceClient) -> dict[str, Checkpoint]:
    """The models that the server has now."""
    found = await client.ask("/sdapi/v1/sd-models")
    checkpoints: dict[str, Checkpoint] = {}
    for each in found if isinstance(found, list) else []:
        if isinstance(each, dict) and isinstance(title := each.get("title"), str):
            name = each["model_name"] if isinstance(each.get("model_name"), str) else title
            short = each["hash"] if isinstance(each.get("hash"), str) else None
            checkpoints.setdefault(name, Checkpoint(title, short))
    return checkpoints


def _limits(native: Any) -> dict[str, int]:
    found = native.get("limits") if isinstance(native, dict) else None
    limits = found if isinstance(found, dict) else {}
    return {name: value for name, value in limits.items() if isinstance(value, int)}
