"""The models as OpenAI's clients name them: `GET /openai/v1/models` and the aliases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from common.application.capabilities import Model
from common.application.fleet.reader import Fleet
from common.application.fleet.validation import listed
from common.application.fleet.view import FleetView
from common.domain.errors import NotFound
from services.api.context import Context
from services.api.openai.schema import OpenAIError, OpenAIModel, OpenAIModels
from services.api.routes.operation import NO_INPUT, Operation, PlainCall, RouteGroup, answer

PREFIXES: Final = ("dall-e-", "gpt-image-", "chatgpt-image-")  # every such name is an alias of the default model
# some clients offer only models of these names
_LISTED: Final = ("dall-e-2", "dall-e-3", "gpt-image-1")


@dataclass(frozen=True, slots=True)
class ModelNames:
    """Finds the model that a client means. While no models are known, every name is accepted."""

    aliases: dict[str, str]
    fleet: Fleet

    @classmethod
    def of(cls, context: Context) -> ModelNames:
        return cls(dict(context.settings.openai_model_aliases), context.fleet)

    async def find(self, name: str | None) -> Model:
        """The model of this name or alias, with the samplers that it can use; the default model without a name.

        Raises:
            NotFound: `model_not_found`, with the names of those that exist.
        """
        view = await self.fleet.current()
        default = view.catalogue().default_model()
        known = _names(view)
        wanted = self.aliases.get(name, name) if name is not None else None
        if wanted is None or (wanted not in known and wanted.startswith(PREFIXES)):
            wanted = default
        offered = view.find(wanted)
        if offered is not None:
            return offered.model.model_copy(update={"id": wanted})
        if view.is_known:
            raise _missing(name or wanted, known)
        return Model(id=wanted)

    async def listed(self) -> list[str]:
        """The names to choose from: models, then aliases."""
        view = await self.fleet.current()
        return list(dict.fromkeys([*(_names(view) or [view.catalogue().default_model()]), *self.aliases, *_LISTED]))


def _names(view: FleetView) -> list[str]:
    return [offered.model.id for offered in view.catalogue().models]


def _missing(name: str, known: list[str]) -> NotFound:
    return NotFound(f"The model '{name}' does not exist. There are: {listed(known)}.", code="model_not_found")


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
