"""What can be ordered, and how much of it is left: `GET /api/models/` and `GET /api/limits/`."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from common.application.capabilities import Capabilities
from common.domain.requests import GenerationRequest
from services.api.context import Call, Operation, answer
from services.api.limits import ratelimit
from services.api.routes.schema import Limit, Limits, ModelOffer, Offers

_DEFAULTS: Final = GenerationRequest(prompt="-").model_dump(by_alias=True, exclude={"prompt"})


async def models(call: Call) -> web.Response:
    """Models and samplers as the inference service names them; the defaults alone where it does not."""
    capabilities = call.context.capabilities
    offered = await capabilities.get() if capabilities is not None else None
    return answer(_offers(offered))


async def limits(call: Call) -> web.Response:
    """What the owner has left."""
    context = call.context
    found = await context.admission.limits(call.owner)
    body = Limits(
        hourly=Limit(limit=found.hourly.limit, remaining=found.hourly.remaining, resets_in=found.hourly.resets_in_s),
        concurrent=Limit(
            limit=found.concurrent.limit,
            remaining=found.concurrent.remaining,
            resets_in=found.concurrent.resets_in_s,
        ),
    )
    return answer(body, headers=ratelimit.policy(context.settings))


OPERATIONS: Final = [
    Operation(
        "GET", "/api/models/", models, "What can be ordered", answers={200: Offers}, problems=(401, 406, 413, 503)
    ),
    Operation(
        "GET",
        "/api/limits/",
        limits,
        "What is left",
        answers={200: Limits},
        problems=(401, 406, 413, 503),
        gives_headers=(ratelimit.POLICY,),
    ),
]


def _offers(offered: Capabilities | None) -> Offers:
    if offered is None or not offered.models:
        only = ModelOffer(
            id=str(_DEFAULTS["model"]),
            name=str(_DEFAULTS["model"]),
            samplers=[str(_DEFAULTS["sampler"])],
            max_width=None,
            max_height=None,
            max_steps=None,
            hires_fix=True,
            negative_prompt=True,
        )
        return Offers(known=False, engine=None, notice=None, models=[only], defaults=_DEFAULTS)
    return Offers(
        known=True,
        engine=offered.engine,
        notice=offered.notice,
        models=[
            ModelOffer(
                id=model.id,
                name=model.name or model.id,
                samplers=list(model.samplers or offered.samplers),
                max_width=model.max_width,
                max_height=model.max_height,
                max_steps=model.max_steps,
                hires_fix=model.hires_fix is not False,
                negative_prompt=model.negative_prompt is not False,
            )
            for model in offered.models
        ],
        defaults=_DEFAULTS,
    )
