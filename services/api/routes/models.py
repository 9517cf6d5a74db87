"""What an owner can request: `GET /api/models/` and `GET /api/limits/`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web

from common.application.capabilities import Model
from common.application.fleet.defaults import completed
from common.application.fleet.reader import Fleet
from common.application.fleet.view import FleetView, OfferedModel
from common.domain.pools import DEFAULT_POOL
from common.domain.quotas import QuotaState
from common.domain.requests import GenerationRequest
from common.runtime.settings import Settings
from services.api.context import Context
from services.api.limits import ratelimit
from services.api.limits.admission import Admission
from services.api.routes.operation import NO_INPUT, Operation, PlainCall, RouteGroup, answer
from services.api.routes.schema import Limit, Limits, ModelAnswer, ModelsAnswer

FEATURES: Final = ("share_links",)  # settings that a page has to know of
_DEFAULTS: Final = GenerationRequest(prompt="-")


@dataclass(frozen=True, slots=True)
class ModelRoutes:
    settings: Settings
    fleet: Fleet
    admission: Admission

    @classmethod
    def of(cls, context: Context) -> ModelRoutes:
        return cls(context.settings, context.fleet, context.admission)

    async def models(self, _call: PlainCall) -> web.Response:
        """Lists the models of the generators with their samplers, or the defaults if no generator lists any."""
        return answer(_models_answer(await self.fleet.current(), self.settings))

    async def limits(self, call: PlainCall) -> web.Response:
        """Returns the limits of the owner and what is left of them."""
        found = await self.admission.limits(call.owner)
        body = Limits(
            hourly=_limit(found.hourly),
            concurrent=_limit(found.concurrent),
            waiting=_limit(found.waiting) if found.waiting else None,
        )
        return answer(body, headers=ratelimit.policy_header(self.settings))


OPERATIONS: Final = (
    Operation(
        "offers_models",
        "GET",
        "/api/models/",
        NO_INPUT,
        ModelRoutes.models,
        "List the available models",
        answers={200: ModelsAnswer},
        problems=(401, 406, 413, 503),
    ),
    Operation(
        "offers_limits",
        "GET",
        "/api/limits/",
        NO_INPUT,
        ModelRoutes.limits,
        "Get the remaining limits",
        answers={200: Limits},
        problems=(401, 406, 413, 503),
        gives_headers=(ratelimit.POLICY,),
    ),
)
GROUP: Final = RouteGroup(ModelRoutes.of, OPERATIONS)


def _limit(state: QuotaState) -> Limit:
    return Limit(limit=state.limit, remaining=state.remaining, resets_in=state.resets_in_s)


def _models_answer(view: FleetView, settings: Settings) -> ModelsAnswer:
    union = view.catalogue()
    return ModelsAnswer(
        features=[name for name in FEATURES if getattr(settings, name)],
        known=bool(union.models),
        engine=union.engine,
        notice=union.notice,
        models=[_model_answer(offered) for offered in union.models] or [_default_model(union.unlisted)],
        defaults=completed(_DEFAULTS, view).model_dump(by_alias=True, exclude={"prompt"}),
    )


def _default_model(unlisted: OfferedModel | None) -> ModelAnswer:
    """The default model, if no generator lists its models."""
    name, sampler = _DEFAULTS.model, _DEFAULTS.sampler
    found = unlisted or OfferedModel(Model(id=name), DEFAULT_POOL, is_live=True)
    model = found.model.model_copy(update={"id": name, "samplers": found.model.samplers or (sampler,)})
    return _model_answer(replace(found, model=model))


def _model_answer(offered: OfferedModel) -> ModelAnswer:
    model = offered.model
    return ModelAnswer(
        id=model.id,
        name=model.name or model.id,
        samplers=list(model.samplers),
        max_width=model.max_width,
        max_height=model.max_height,
        max_steps=model.max_steps,
        grid=model.grid,
        hires_fix=model.hires_fix is not False,
        negative_prompt=model.negative_prompt is not False,
        live=offered.is_live,
    )
