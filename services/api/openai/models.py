"""The models as OpenAI's clients name them: `GET /openai/v1/models` and the aliases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from common.application.capabilities import Capabilities, CapabilitiesClient, Model
from common.domain.errors import NotFound
from common.domain.requests import GenerationRequest
from services.api.context import Context
from services.api.openai.schema import OpenAIError, OpenAIModel, OpenAIModels
from services.api.routes.operation import NO_INPUT, Operation, PlainCall, RouteGroup, answer

PREFIXES: Final = ("dall-e-", "gpt-image-", "chatgpt-image-")  # every such name is an alias of the default model
# some clients offer only models of these names
_LISTED: Final = ("dall-e-2", "dall-e-3", "gpt-image-1")
_DEFAULTS: Final = GenerationRequest(prompt="-")


@dataclass(frozen=True, slots=True)
class ModelNames:
    """Finds the model that a client means. While no models are known, every name is accepted."""

    aliases: dict[str, str]
    capabilities: CapabilitiesClient | None

    @classmethod
    def of(cls, context: Context) -> ModelNames:
        return cls(dict(context.settings.openai_model_aliases), context.capabilities)

    async def find(self, name: str | None) -> Model:
        """The model of this name or alias, with the samplers that it can use; the default model without a name.

        Raises:
            NotFound: `model_not_found`, with the names of those that exist.
        """
        found = await self._known()
        known = {model.id: model for model in found.models}
        wanted = self.aliases.get(name, name) if name is not None else None
        if wanted is None or (wanted not in known and wanted.startswith(PREFIXES)):
            wanted = _default(known)
        if not known:
            return Model(id=wanted, samplers=found.samplers)
        if wanted not in known:
            raise _missing(name or wanted, known)
        model = known[wanted]
        return model if model.samplers else model.model_copy(update={"samplers": found.samplers})

    async def listed(self) -> list[str]:
        """The names to choose from: models, then aliases."""
        known = {model.id: model for model in (await self._known()).models}
        return list(dict.fromkeys([*(known or [_default(known)]), *self.aliases, *_LISTED]))

    async def _known(self) -> Capabilities:
        found = await self.capabilities.get() if self.capabilities is not None else None
        return found or Capabilities()


def _default(known: dict[str, Model]) -> str:
    return _DEFAULTS.model if _DEFAULTS.model in known else next(iter(known), _DEFAULTS.model)


def _missing(name: str, known: dict[str, Model]) -> NotFound:
    return NotFound(f"The model '{name}' does not exist. There are: {', '.join(known)}.", code="model_not_found")


@dataclass(frozen=True, slots=True)
class OpenAIModelRoutes:
    names: ModelNames

    async def list_all(self, _call: PlainCall) -> web.Response:
        """Lists the models, then the aliases that clients of OpenAI's API know."""
        return answer(OpenAIModels(data=[OpenAIModel(id=name) for name in await self.names.listed()]))

    async def get(self, call: PlainCall) -> web.Response:
        """Returns a model or an alias."""
        name = call.request.match_info["model"].rstrip("/")
        if name not in await self.names.listed() and not name.startswith(PREFIXES):
            raise NotFound(f"The model '{name[:100]}' does not exist.", code="model_not_found")
        return answer(OpenAIModel(id=name))


OPERATIONS: Final = (
    Operation(
        "openai_models",
        "GET",
        "/openai/v1/models",
        NO_INPUT,
        OpenAIModelRoutes.list_all,
        "List the models (OpenAI)",
        answers={200: OpenAIModels},
        problems=(401, 406, 413, 503),
        error_model=OpenAIError,
        other_credential="api-key",
    ),
    Operation(
        "openai_model",
        "GET",
        "/openai/v1/models/{model:.+}",
        NO_INPUT,
        OpenAIModelRoutes.get,
        "Get a model (OpenAI)",
        answers={200: OpenAIModel},
        problems=(401, 404, 406, 413, 503),
        error_model=OpenAIError,
        other_credential="api-key",
    ),
)
GROUP: Final = RouteGroup(lambda context: OpenAIModelRoutes(ModelNames.of(context)), OPERATIONS)
