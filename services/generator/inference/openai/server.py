"""The server that answers at OpenAI's routes, as it describes itself.

Sources: openai-openapi; vLLM-Omni `docs/serving/image_generation_api.md`; SGLang, LocalAI and stable-diffusion.cpp in
their source; sd-server as recorded in tests/transcripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from yarl import URL

from common.application.capabilities import Capabilities, Feature, Model
from common.domain.errors import Denied
from services.generator.inference.samplers import named_samplers
from services.generator.inference.service_client import ASK_S, ServiceClient
from services.generator.inference.supported import DEFAULT_SAMPLER

_SDSERVER_GRID: Final = 64  # pixels: it rounds sides up to it
_GPT_GRID: Final = 16
# OpenAI lists its models for text and speech as well
_IMAGE_MODELS: Final = ("gpt-image", "chatgpt-image", "dall-e")


class Maker(StrEnum):
    """Whose server it is; the value is its name for people, and in `?server=` of a URL in lower case."""

    OPENAI = "OpenAI"
    VLLM = "vLLM-Omni"
    SGLANG = "SGLang"
    LOCALAI = "LocalAI"
    SDSERVER = "sd-server"
    OTHER = "unknown"


_IN_URLS: Final = {
    "openai": Maker.OPENAI,
    "vllm": Maker.VLLM,
    "sglang": Maker.SGLANG,
    "localai": Maker.LOCALAI,
    "sd-server": Maker.SDSERVER,
    "other": Maker.OTHER,
}
SERVERS: Final = tuple(_IN_URLS)
_NEGATIVE: Final = frozenset({Maker.VLLM, Maker.SGLANG, Maker.LOCALAI, Maker.SDSERVER})


def maker_in_url(name: str) -> Maker | None:
    return _IN_URLS.get(name.lower())


@dataclass(frozen=True, slots=True)
class OpenAiServer:
    """One server, as it described itself."""

    maker: Maker
    models: tuple[str, ...]
    samplers: Mapping[str, str]  # of sd-server: its name by the name that a request uses
    limits: Mapping[str, int]

    @property
    def has_seed(self) -> bool:
        return self.maker is not Maker.OPENAI

    @property
    def ignores_models(self) -> bool:
        """Whether it paints with the model that it has, whatever an order says."""
        return self.maker is Maker.SDSERVER

    def capabilities(self) -> Capabilities:
        features = [Feature.NEGATIVE_PROMPT] if self.maker in _NEGATIVE else []
        if self.maker is Maker.LOCALAI:
            features.append(Feature.CANCEL)
        if self.maker is Maker.OPENAI:
            features.append(Feature.PREVIEWS)
        return Capabilities(
            engine=self.maker,
            dialect="openai",
            notice=None if self.has_seed else "there is no seed: an order cannot be repeated",
            models=tuple(self._model(name) for name in self.models),
            samplers=tuple(self.samplers) or (DEFAULT_SAMPLER,),
            features=tuple(features),
            concurrency=1 if self.maker is Maker.SDSERVER else None,
        )

    def _model(self, name: str) -> Model:
        if self.maker is Maker.SDSERVER:
            width, height = self.limits.get("max_width"), self.limits.get("max_height")
            return Model(id=name, grid=_SDSERVER_GRID, max_width=width, max_height=height)
        is_free_size = self.maker is Maker.OPENAI and name.startswith("gpt-image-2")
        return Model(id=name, grid=_GPT_GRID if is_free_size else None)


async def probe(client: ServiceClient, *, maker: Maker | None, models: tuple[str, ...]) -> OpenAiServer:
    """Ask the server what it is; `maker` and `models` are what the operator says in the URL.

    Raises:
        Denied: it refuses us, or has none of the routes.
        Unreachable, Transient: it does not answer.
    """
    listed = await client.ask("/models")
    if listed is None and maker is None and not await has_route(client):
        raise Denied("there is neither /models nor /images/generations at this URL, which ends in /v1 as a rule")
    entries = _entries(listed)
    native = await _native(client) if maker in {None, Maker.SDSERVER} else None
    found = maker or await _maker(client, entries, native)
    names = models or tuple(each["id"] for each in entries)
    if found is Maker.OPENAI and not models:
        names = tuple(name for name in names if name.startswith(_IMAGE_MODELS))
    samplers = native.get("samplers") if native else None
    limits = native.get("limits") if native else None
    return OpenAiServer(
        maker=found,
        models=names,
        samplers=named_samplers(filter(_is_text, samplers)) if isinstance(samplers, list) else {},
        limits={k: v for k, v in limits.items() if isinstance(v, int)} if isinstance(limits, dict) else {},
    )


def _entries(listed: Any) -> list[dict[str, Any]]:
    data = listed.get("data") if isinstance(listed, dict) else None
    entries = data if isinstance(data, list) else []
    return [each for each in entries if isinstance(each, dict) and _is_text(each.get("id"))]


async def _maker(client: ServiceClient, entries: list[dict[str, Any]], native: dict[str, Any] | None) -> Maker:
    if native is not None:
        return Maker.SDSERVER
    if (URL(client.base).host or "").endswith("openai.com"):
        return Maker.OPENAI
    owners = {str(each.get("owned_by", "")).lower() for each in entries}
    if any(owner.startswith("vllm") for owner in owners):
        return Maker.VLLM
    if "sglang" in owners:
        return Maker.SGLANG
    if owners & {"openai", "openai-internal", "system"}:
        return Maker.OPENAI
    is_localai = owners == {""} and await _exists(client, "/readyz")
    return Maker.LOCALAI if is_localai else Maker.OTHER


async def has_route(client: ServiceClient) -> bool:
    """Whether orders have a route: it answers 405 to a GET, and a route that is missing 404."""
    async with client.open("GET", "/images/generations", limit_s=ASK_S) as response:
        return response.status != 404


def _root(client: ServiceClient) -> ServiceClient:
    """The same server above `/v1`."""
    return client.at(client.base.removesuffix("/v1"))


async def _native(client: ServiceClient) -> dict[str, Any] | None:
    """The capabilities that only sd-server has; its list of models is no different from others."""
    try:
        found = await _root(client).ask("/sdcpp/v1/capabilities")
    except Denied:  # a proxy that refuses other routes
        return None
    return found if isinstance(found, dict) and "limits" in found else None


async def _exists(client: ServiceClient, path: str) -> bool:
    async with _root(client).open("GET", path, limit_s=ASK_S) as response:
        return response.status == 200


def _is_text(value: object) -> bool:
    return isinstance(value, str)
