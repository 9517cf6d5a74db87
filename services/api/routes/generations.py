"""`POST /v1/images/generations`: record a request, dispatch it, answer with the image or with 202."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from aiohttp import web

from common.application.batches import Batches
from common.application.fleet.defaults import completed
from common.application.fleet.reader import Fleet
from common.application.fleet.validation import require_offered
from common.application.webhooks.destinations import Destinations
from common.domain.errors import Duplicate, Gone, Invalid, LimitReached
from common.domain.images import Image, Status, new_image_id
from common.domain.owners import scoped_key
from common.domain.requests import GenerationRequest, new_image
from common.runtime.clock import Clock, latest_now
from common.runtime.logs import log_context
from common.runtime.settings import Settings
from common.runtime.tracing.http import request_traceparent
from common.runtime.tracing.spans import span
from common.store.port import Store
from services.api.context import Context
from services.api.events.waits import Waits
from services.api.limits import ratelimit
from services.api.limits.admission import Admission
from services.api.middleware import problems
from services.api.middleware.client_address import base_url
from services.api.middleware.prefer import parse_prefer
from services.api.middleware.request_reading import has_disconnected
from services.api.presenter import GenerationAnswer, Presenter
from services.api.routes.operation import Call, Operation, RouteGroup, answer, body_of
from services.api.routes.schema import FailedProblem, Problem

SOURCE: Final = "api"
_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")
# fields that only requests of OpenAI's API have
OPENAI_FIELDS: Final = frozenset(
    (
        "n",
        "size",
        "response_format",
        "output_format",
        "output_compression",
        "stream",
        "partial_images",
        "quality",
        "style",
        "background",
        "moderation",
        "complexity",
        "user",
        "safety_identifier",
    )
)
_FAILED_STATUS: Final = {"inference_refused": 422, "deadline": 504}
GenerateCall: TypeAlias = Call[None, GenerationRequest]


def explain(error: Invalid, request: web.Request) -> Invalid:
    """A request with OpenAI's fields gets the base URL where it belongs."""
    foreign = sorted(OPENAI_FIELDS & error.fields.keys())
    if not foreign:
        return error
    where = f"{base_url(request)}/openai/v1"
    named = dict.fromkeys(foreign, f"a field of OpenAI's API: its base URL is {where}")
    detail = f"{', '.join(foreign)}: requests of OpenAI's API have the base URL {where} here; {error.detail}"
    return Invalid(detail[:1000], code=error.code, fields=error.fields | named)


@dataclass(frozen=True, slots=True)
class GenerationRoutes:
    settings: Settings
    clock: Clock
    store: Store
    batches: Batches
    fleet: Fleet
    admission: Admission
    waits: Waits
    presenter: Presenter

    @classmethod
    def of(cls, context: Context) -> GenerationRoutes:
        return cls(
            settings=context.settings,
            clock=context.clock,
            store=context.store,
            batches=context.batches,
            fleet=context.fleet,
            admission=context.admission,
            waits=context.waits,
            presenter=context.presenter,
        )

    async def generate(self, call: GenerateCall) -> web.Response:
        """Requests an image. The answer waits for the image unless the client prefers otherwise."""
        preference = _preference(call.request, longest_s=self.settings.generation_deadline)
        policy = ratelimit.policy_header(self.settings)
        try:
            # counted before anything is recorded: a request that is refused has no effect
            with self.waits.counted(call.owner) if preference.wait_s > 0 else nullcontext():
                response = await self._generate(call, preference)
        except LimitReached as error:
            response = problems.error_response(error)
        response.headers.update(policy)
        return response

    async def _generate(self, call: GenerateCall, preference: Preference) -> web.Response:
        remaining: dict[str, str] = {}
        image = await self._find_existing(call)
        if image is None:
            image, remaining = await self._accept(call, may_wait=preference.may_wait)
        response = await self._respond(call, image, preference)
        response.headers.update(remaining)
        return response

    async def _find_existing(self, call: GenerateCall) -> Image | None:
        """The first image that an earlier request with the same Idempotency-Key created."""
        key = _idempotency_key(call)
        image = await self.store.find_by_idempotency(key) if key else None
        if image is None:
            return None
        if image.request_hash != _hash(call.body):
            raise Invalid("this Idempotency-Key was used for a different request", code="idempotency_mismatch")
        if image.batch_due is not None:
            image = await self.batches.begin(image)  # the process that was to complete it may have died
        if all(member.deleted_at is not None for member in await self.batches.members(image)):
            raise Gone(f"image {image.id}, requested with this Idempotency-Key, was deleted", code="image_deleted")
        return image

    async def _accept(self, call: GenerateCall, *, may_wait: bool) -> tuple[Image, dict[str, str]]:
        """Record new images, dispatched or waiting; returns the first with the header that says how many may follow."""
        view = await self.fleet.current()
        request = completed(call.body, view)
        require_offered(request, view)
        request = Destinations.of(self.settings).addressed(request, webhook_of_key=call.caller.webhook)
        now = latest_now(self.clock)
        key = _idempotency_key(call)
        image = new_image(
            request,
            image_id=new_image_id(now),
            owner=call.owner,
            source=SOURCE,
            now=now,
            traceparent=request_traceparent(call.request),
        ).model_copy(update={"idempotency": key, "request_hash": _hash(call.body) if key else None})
        try:
            with span("store record"):
                image, hour = await self.admission.record(image, may_wait=may_wait)
        except (Duplicate, LimitReached):
            # another request with the same key may have been recorded meanwhile: then both wait for its image
            if existing := await self._find_existing(call):
                return existing, {}
            raise
        # the image is recorded: the janitor sends what the broker does not accept now
        with log_context(image.id):
            image = await self.batches.begin(image)
        return image, ratelimit.remaining_header(hour, settings=self.settings, now=now)

    async def _respond(self, call: GenerateCall, first: Image, preference: Preference) -> web.Response:
        ended = await self.waits.until_all_final(
            await self.batches.members(first),
            timeout_s=preference.wait_s,
            has_left=partial(has_disconnected, call.request),
        )
        found = [image for image in ended if image is not None and image.deleted_at is None]
        if not found:
            raise Gone(f"image {first.id} was deleted", code="image_deleted")
        headers = {"Location": f"{self.settings.base_path}/api/images/{found[0].id}/", **preference.header}
        if any(not image.status.is_final for image in found):
            return answer(await self.presenter.generation(found), status=202, headers=headers)
        if any(image.status is Status.COMPLETED for image in found):
            return answer(await self.presenter.generation(found), status=201, headers=headers)
        return self._failed(found)

    def _failed(self, images: Sequence[Image]) -> web.Response:
        """The problem of the first image that failed, or of the first if all were cancelled."""
        image = next((image for image in images if image.status is Status.FAILED), images[0])
        view = self.presenter.view(image)
        views = [self.presenter.view(each) for each in images] if image.batch is not None else None
        if image.status is Status.CANCELLED or view.error is None:
            more: dict[str, Any] = {"image": view.model_dump(mode="json", by_alias=True)}
            if views is not None:
                more["images"] = [each.model_dump(mode="json", by_alias=True) for each in views]
            return problems.problem_response(409, "cancelled", f"image {image.id} was cancelled", **more)
        status = _FAILED_STATUS.get(view.error.code, 502)
        members = problems.problem(status, view.error.code, view.error.detail)
        failed = FailedProblem(**members, error=view.error, image=view, images=views)
        return problems.respond(failed.model_dump(mode="json", by_alias=True))


OPERATIONS: Final = (
    Operation(
        "generations_generate",
        "POST",
        "/v1/images/generations",
        body_of(GenerationRequest),
        GenerationRoutes.generate,
        "Request an image, or several",
        answers={201: GenerationAnswer, 202: GenerationAnswer},
        problems=(400, 401, 403, 406, 408, 409, 410, 413, 415, 422, 429, 502, 503, 504),
        problem_models={422: (Problem, FailedProblem), 502: (FailedProblem,), 504: (FailedProblem,)},
        explain=explain,
        headers={
            "Prefer": "`respond-async` answers 202 at once, and lets the image wait for its turn; `wait=N` answers "
            "after at most N seconds"
        },
        # no parameter of the document: a generator of requests would repeat keys, and the answer to such a request
        # depends on those before it
        notes="With the header `Idempotency-Key` (1 to 200 visible ASCII characters, new for each request) a repeated "
        "request gets the answer of the first: 422 if its body differs, 410 if all its images were deleted.\n\n"
        "A request for several images (`numImages`) is accepted or refused as a whole. Each is an image of its own, "
        "with the next seed, and `images` of the answer lists all. The answer is 201 if at least one is completed and "
        "none is queued or running, 202 if some are, else the problem of the first that failed.",
        gives_headers=("Location", "Preference-Applied", ratelimit.POLICY, ratelimit.REMAINING),
    ),
)
GROUP: Final = RouteGroup(GenerationRoutes.of, OPERATIONS)


@dataclass(frozen=True, slots=True)
class Preference:
    """How long to wait for the image, and the header that says which preference was applied.

    `may_wait`: whether the image may wait for its turn. A request that waits for its picture is refused instead, unless
    it prefers an answer before the picture is there.
    """

    wait_s: float
    header: dict[str, str]
    may_wait: bool = False


def _preference(request: web.Request, *, longest_s: float) -> Preference:
    """By `Prefer` (RFC 7240, sections 4.1 and 4.3); `wait` comes before `respond-async`."""
    preferences = parse_prefer(request.headers.getall("Prefer", []))
    if (wait := preferences.get("wait")) is not None:
        if not (wait.isascii() and wait.isdecimal()) or len(wait) > 6:
            raise Invalid("the value of Prefer: wait= must be a whole number of seconds", code="invalid_header")
        wait_s = min(float(wait), longest_s)
        may_wait = not wait_s or "respond-async" in preferences
        return Preference(wait_s, {"Preference-Applied": f"wait={wait_s:g}" if wait_s else "respond-async"}, may_wait)
    if "respond-async" in preferences:
        return Preference(0, {"Preference-Applied": "respond-async"}, may_wait=True)
    return Preference(longest_s, {})


def _idempotency_key(call: GenerateCall) -> str | None:
    key = call.request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise Invalid("an Idempotency-Key must be 1 to 200 visible ASCII characters", code="invalid_header")
    return scoped_key(call.owner, key)


def _hash(request: GenerationRequest) -> str:
    """The hash of the request as the client sent it: before a seed is drawn."""
    return hashlib.sha256(request.model_dump_json().encode()).hexdigest()
