"""`POST /v1/images/generations`: admit an order, put it on record, send it, and answer with the picture or with 202."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from aiohttp import web

from common.application.capabilities import Capabilities
from common.domain.errors import Duplicate, Gone, Invalid, LimitReached
from common.domain.images import Image, Status, new_image_id
from common.domain.owners import scoped_key
from common.domain.requests import GenerationRequest, new_image
from services.api.context import Call, Operation, answer
from services.api.limits import ratelimit
from services.api.middleware.problems import of, problem
from services.api.routes.schema import ImageAnswer

SOURCE: Final = "api"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")
_TRACEPARENT: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_FAILED_STATUS: Final = {"inference_refused": 422, "deadline": 504}


async def generate(call: Call) -> web.Response:
    """Order an image; waits for it unless the client prefers otherwise."""
    request: GenerationRequest = call.body
    settings = call.context.settings
    wait_s = _wait(call.request, longest_s=settings.generation_deadline)
    left: dict[str, str] = {}
    image = await _ordered_before(call, request)
    if image is None:
        try:
            image, left = await _order(call, request)
        except LimitReached as error:
            response = of(error)
            response.headers.update(ratelimit.policy(settings))
            return response
    response = await _answer(call, image, wait_s)
    response.headers.update(ratelimit.policy(settings) | left)
    return response


OPERATIONS: Final = [
    Operation(
        "POST",
        "/v1/images/generations",
        generate,
        "Order an image",
        body=GenerationRequest,
        answers={201: ImageAnswer, 202: ImageAnswer},
        problems=(400, 401, 403, 406, 408, 409, 410, 413, 415, 422, 429, 502, 503, 504),
        headers={
            "Prefer": "`respond-async` answers 202 at once, `wait=N` after at most N seconds",
            "Idempotency-Key": "a repeat with the same key and body returns the first order's answer",
        },
        gives_headers=("Location", "Preference-Applied", ratelimit.POLICY, ratelimit.LEFT),
    )
]


async def _ordered_before(call: Call, request: GenerationRequest) -> Image | None:
    key = _idempotency(call)
    image = await call.context.store.find_by_idempotency(key) if key else None
    if image is None:
        return None
    if image.request_hash != _hash(request):
        raise Invalid("this Idempotency-Key was used for another request", code="idempotency_mismatch")
    if image.deleted_at is not None:
        raise Gone(f"image {image.id}, ordered with this Idempotency-Key, was deleted", code="image_deleted")
    return image


async def _order(call: Call, request: GenerationRequest) -> tuple[Image, dict[str, str]]:
    """The image on record, and the headers that say how many more may follow."""
    context = call.context
    if context.capabilities is not None and (offered := await context.capabilities.get()):
        _require_offered(request, offered)
    # an order dated back by a clock that was set back would be past its deadline at once
    now = max(context.clock.now(), context.clock.stable_now())
    key = _idempotency(call)
    image = new_image(
        request,
        image_id=new_image_id(now),
        owner=call.owner,
        source=SOURCE,
        now=now,
        traceparent=_traceparent(call.request),
    ).model_copy(update={"idempotency": key, "request_hash": _hash(request) if key else None})
    try:
        image, hour = await context.admission.record(image)
    except (Duplicate, LimitReached):
        # the same key may have come by another request meanwhile: then both wait on the one image
        if existing := await _ordered_before(call, request):
            return existing, {}
        raise
    # the order stands from here on: what the broker does not take now, the janitor sends
    await context.outbox.try_dispatch(image)
    return image, ratelimit.left(hour, settings=context.settings, now=now)


def _require_offered(request: GenerationRequest, offered: Capabilities) -> None:
    models = {model.id: model for model in offered.models}
    if models and request.model not in models:
        raise Invalid(
            f"the inference service has no model {request.model!r}; it has {', '.join(models)}",
            code="unknown_model",
            fields={"model": f"one of {', '.join(models)}"},
        )
    samplers = (models[request.model].samplers if models else ()) or offered.samplers
    if samplers and request.sampler not in samplers:
        raise Invalid(
            f"the model {request.model!r} has no sampler {request.sampler!r}; it has {', '.join(samplers)}",
            code="unknown_sampler",
            fields={"sampler": f"one of {', '.join(samplers)}"},
        )


async def _answer(call: Call, image: Image, wait_s: float) -> web.Response:
    context = call.context
    found: Image | None = image
    if wait_s > 0:
        found = await context.live.until_final(image.id, timeout_s=wait_s)
    if found is None or found.deleted_at is not None:
        raise Gone(f"image {image.id} was deleted", code="image_deleted")
    headers = {"Location": f"/api/images/{image.id}/"}
    if "Prefer" in call.request.headers:
        headers["Preference-Applied"] = "respond-async" if wait_s == 0 else f"wait={wait_s:g}"
    if not found.status.is_final:
        return answer(await context.whole(found), status=202, headers=headers)
    if found.status is Status.COMPLETED:
        return answer(await context.whole(found), status=201, headers=headers)
    return _without_picture(call, found)


def _without_picture(call: Call, image: Image) -> web.Response:
    view = call.context.view(image).model_dump(mode="json", by_alias=True)
    if image.status is Status.CANCELLED or image.error is None:
        return problem(409, "cancelled", f"image {image.id} was cancelled", image=view)
    status = _FAILED_STATUS.get(image.error.code, 502)
    return problem(status, image.error.code, image.error.detail, error=view["error"], image=view)


def _wait(request: web.Request, *, longest_s: float) -> float:
    """Seconds to wait for the picture, by `Prefer` (RFC 7240, sections 4.1 and 4.3)."""
    preferences = [part.strip().lower() for part in request.headers.get("Prefer", "").split(",")]
    waits = [part.partition("=")[2].strip() for part in preferences if part.startswith("wait=")]
    if waits:
        if not waits[0].isdecimal() or len(waits[0]) > 6:
            raise Invalid("Prefer: wait= takes whole seconds", code="invalid_header")
        return min(float(waits[0]), longest_s)
    return 0 if "respond-async" in preferences else longest_s


def _idempotency(call: Call) -> str | None:
    key = call.request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise Invalid("an Idempotency-Key has 1 to 200 visible ASCII characters", code="invalid_header")
    return scoped_key(call.owner, key)


def _hash(request: GenerationRequest) -> str:
    """Of the request as it came: a drawn seed is not in it yet."""
    return hashlib.sha256(request.model_dump_json().encode()).hexdigest()


def _traceparent(request: web.Request) -> str | None:
    value = request.headers.get("traceparent", "")
    return value if _TRACEPARENT.fullmatch(value) else None
