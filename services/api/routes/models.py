"""What an owner can request: `GET /api/models/` and `GET /api/limits/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from common.application.capabilities import Capabilities, CapabilitiesClient
from common.domain.quotas import QuotaState
from common.domain.requests import GenerationRequest
from common.runtime.settings import Settings
from services.api.context import Context
from services.api.limits import ratelimit
from services.api.limits.admission import Admission
from services.api.routes.operation import NO_INPUT, Operation, PlainCall, RouteGroup, answer
from services.api.routes.schema import Limit, Limits, ModelAnswer, ModelsAnswer

_DEFAULTS: Final = GenerationRequest(prompt="-").model_dump(by_alias=True, exclude={"prompt"})


@dataclass(frozen=True, slots=True)
class ModelRoutes:
    settings: Settings
    capabilities: CapabilitiesClient | None
    admission: Admission

    @classmethod
    def of(cls, context: Context) -> ModelRoutes:
        return cls(context.settings, context.capabilities, context.admission)

    async def models(self, _call: PlainCall) -> web.Response:
        """Lists the models and samplers of the inference service, or the defaults if it does not report them."""
        found = await self.capabilities.get() if self.capabilities is not None else None
        return answer(_models_answer(found) if found is not None and found.models else _UNKNOWN_MODELS)

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
_UNKNOWN_MODELS: Final = ModelsAnswer(
    known=False,
    engine=None,
    notice=None,
    models=[
        ModelAnswer(
            id=str(_DEFAULTS["model"]),
            name=str(_DEFAULTS["model"]),
            samplers=[str(_DEFAULTS["sampler"])],
            max_width=None,
            max_height=None,
            max_steps=None,
            hires_fix=True,
            negative_prompt=True,
        )
    ],
    defaults=_DEFAULTS,
)


def _limit(state: QuotaState) -> Limit:
    return Limit(limit=state.limit, remaining=state.remaining, resets_in=state.resets_in_s)


def _models_answer(capabilities: Capabilities) -> ModelsAnswer:
    return ModelsAnswer(
        known=True,
        engine=capabilities.engine,
        notice=capabilities.notice,
        models=[
            ModelAnswer(
                id=model.id,
                name=model.name or model.id,
                samplers=list(model.samplers or capabilities.samplers),
                max_width=model.max_width,
                max_height=model.max_height,
                max_steps=model.max_steps,
                hires_fix=model.hires_fix is not False,
                negative_prompt=model.negative_prompt is not False,
            )
            for model in capabilities.models
        ],
        defaults=_DEFAULTS,
    )
