"""`POST /openai/v1/images/generations`: order images, wait for them, answer as OpenAI does."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiohttp import web

from common.application.capabilities import Model
from common.application.fleet.defaults import default_values
from common.application.fleet.validation import listed, require_offered
from common.application.webhooks.destinations import Destinations
from common.domain.errors import Invalid, NotFound
from common.domain.images import Image
from common.domain.requests import GenerationRequest
from common.runtime.logs import image_fields
from common.runtime.tracing.http import request_traceparent
from services.api.context import Context
from services.api.openai import orders, pictures
from services.api.openai.errors import SHOULD_RETRY, envelope
from services.api.openai.models import ModelNames
from services.api.openai.orders import OrderFailure
from services.api.openai.pictures import PictureForm
from services.api.openai.repeats import OpenOrder, Repeats, repeat_number
from services.api.openai.schema import ImageRequest, OpenAIError, OpenAIImages, TokenUsage
from services.api.openai.stream import OrderStream, PartialImages, send
from services.api.routes.operation import IGNORED_INPUT, Call, Operation, PlainCall, RouteGroup, body_of

log = logging.getLogger(__name__)

_DEFAULTS: Final = GenerationRequest(prompt="-")
_LOST: Final = OrderFailure(500, "file_lost", "The file of the picture was lost.")
_USAGE: Final = TokenUsage().model_dump()
ImageCall: TypeAlias = Call[None, ImageRequest]


@dataclass(frozen=True, slots=True)
class OpenAIGenerationRoutes:
    context: Context
    names: ModelNames
    repeats: Repeats

    @classmethod
    def of(cls, context: Context) -> OpenAIGenerationRoutes:
        settings = context.settings
        repeats = Repeats(
            context.store, context.clock, is_on=settings.has_identity, kept_s=settings.generation_deadline
        )
        return cls(context, ModelNames.of(context), repeats)

    async def generate(self, call: ImageCall) -> web.StreamResponse:
        """Generates images and answers with them, or with a stream of events."""
        body = call.body
        request = generation_request(body, await self.names.find(body.model))
        require_offered(request, await self.context.fleet.current())
        destinations = Destinations.of(self.context.settings)
        request = destinations.addressed(request, webhook_of_key=call.caller.webhook)
        form = PictureForm(body.format, body.output_compression, body.response_format == "url")
        with self.context.waits.counted(call.owner):
            number = repeat_number(call.request)
            async with self.repeats.order(call.owner, body, number=number) as order:
                answer = self._stream if body.stream else self._answer
                return await answer(call, request, form, order)

    async def _answer(
        self, call: ImageCall, request: GenerationRequest, form: PictureForm, order: OpenOrder
    ) -> web.StreamResponse:
        images = await self._order(call, request, form, order)
        result = await orders.ended(self.context, call.request, images)
        response = await self._send(call, result, form, order) if isinstance(result, list) else None
        if response is None:
            response = _failed(result if isinstance(result, OrderFailure) else _LOST)
            await order.answered()
            await response.prepare(call.request)
            await response.write_eof()
        return response

    async def _stream(
        self, call: ImageCall, request: GenerationRequest, form: PictureForm, order: OpenOrder
    ) -> web.StreamResponse:
        partials = PartialImages(order.id, call.body.partial_images or 0)
        async with self.context.live.subscribed(call.owner, partials.on_event):
            images = await self._order(call, request, form, order)
            size = f"{request.width}x{request.height}"
            stream = await OrderStream.open(self.context, call.request, form, size)
            await stream.run(images, partials, order)
        return stream.response

    async def _order(
        self, call: ImageCall, request: GenerationRequest, form: PictureForm, order: OpenOrder
    ) -> list[Image]:
        return await orders.order(
            self.context,
            call.owner,
            request,
            call.body.count,
            order_id=order.id,
            wanted_format=form.asked,
            traceparent=request_traceparent(call.request),
        )

    async def _send(
        self, call: ImageCall, images: list[Image], form: PictureForm, order: OpenOrder
    ) -> web.StreamResponse | None:
        """Send one picture after the other: ten of them would take 140 MB. None if all files are lost."""
        elements = self._elements(call, images, form)
        first = await anext(elements, None)
        if first is None:
            return None
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(call.request)
        start = f'{{"created":{int(self.context.clock.now().timestamp())},"data":['
        size = f"{images[0].width}x{images[0].height}"
        end = json.dumps({"output_format": form.format, "size": size, "usage": _USAGE})[1:]
        try:
            await send(call.request, response, start.encode() + first)
            async for element in elements:
                await send(call.request, response, b"," + element)
            await order.answered()
            await send(call.request, response, f"],{end}".encode())
            await response.write_eof()
        except Exception:
            if call.request.transport is not None:
                call.request.transport.abort()  # half an answer cannot be continued by an error
            raise
        return response

    async def _elements(self, call: ImageCall, images: list[Image], form: PictureForm) -> AsyncGenerator[bytes]:
        for image in images:
            try:
                element = await pictures.element(self.context, call.request, image, form)
            except NotFound as lost:
                log.error(  # noqa: TRY400
                    "%s The next sweep corrects its record.",
                    lost.detail,
                    extra=image_fields(image.id, image.traceparent),
                )
            else:
                yield element

    async def edits(self, _call: PlainCall) -> web.Response:
        """Answers that images cannot be edited here."""
        raise NotFound("This server does not edit images. It has POST images/generations.", code="unsupported_endpoint")

    async def variations(self, _call: PlainCall) -> web.Response:
        """Answers that variations of an image cannot be made here."""
        raise NotFound(
            "This server makes no variations of images. It has POST images/generations.", code="unsupported_endpoint"
        )


def generation_request(body: ImageRequest, model: Model) -> GenerationRequest:
    """The order for Darkroom: what the client leaves open is chosen so that the model can do it.

    Raises:
        Invalid: the model does not have this size or sampler.
    """
    grid = model.grid or 1
    default = default_values(model)
    width, height = body.sides or (default["width"], default["height"])
    for side, limit, name in ((width, model.max_width, "wide"), (height, model.max_height, "high")):
        if side % grid:
            raise Invalid(
                f"Invalid value for 'size': the model '{model.id}' makes pictures of multiples of {grid} pixels only.",
                code="invalid_value",
                fields={"size": f"a multiple of {grid}"},
            )
        if limit is not None and side > limit:
            raise Invalid(
                f"Invalid value for 'size': the model '{model.id}' makes pictures at most {limit} pixels {name}.",
                code="invalid_value",
                fields={"size": f"at most {limit}"},
            )
    return GenerationRequest(
        prompt=body.prompt,
        negative_prompt=body.negative_prompt or "",
        model=model.id,
        width=width,
        height=height,
        steps=body.steps or default["steps"],
        cfg_scale=_DEFAULTS.cfg_scale if body.cfg_scale is None else body.cfg_scale,
        sampler=default["sampler"] if body.sampler is None else _known_sampler(body.sampler, model),
        seed=-1 if body.seed is None else body.seed,
    )


def _known_sampler(wanted: str, model: Model) -> str:
    if model.samplers and wanted not in model.samplers:
        names = listed(model.samplers)
        raise Invalid(
            f"Invalid value for 'sampler': the model '{model.id}' has {names}.",
            code="invalid_value",
            fields={"sampler": f"one of {names}"},
        )
    return wanted


def _failed(failure: OrderFailure) -> web.Response:
    members = envelope(failure.status, failure.code, failure.message)
    # Darkroom has tried again by itself: a repeat would be another order
    return web.json_response(members, status=failure.status, headers={SHOULD_RETRY: "false"})


OPERATIONS: Final = (
    Operation(
        "openai_generate",
        "POST",
        "/openai/v1/images/generations",
        body_of(ImageRequest),
        OpenAIGenerationRoutes.generate,
        "Generate images (OpenAI)",
        answers={200: OpenAIImages},
        problems=(400, 401, 404, 408, 409, 410, 413, 415, 429, 502, 503, 504),
        error_model=OpenAIError,
        other_credential="api-key",
        media_types=("application/json", "text/event-stream"),
        notes="docs/openai.md lists the fields of OpenAI's API that are honoured, ignored and refused.",
    ),
    Operation(
        "openai_edits",
        "POST",
        "/openai/v1/images/edits",
        IGNORED_INPUT,
        OpenAIGenerationRoutes.edits,
        "Edit an image (OpenAI); not offered",
        answers={},
        problems=(401, 404, 503),
        error_model=OpenAIError,
        other_credential="api-key",
    ),
    Operation(
        "openai_variations",
        "POST",
        "/openai/v1/images/variations",
        IGNORED_INPUT,
        OpenAIGenerationRoutes.variations,
        "Vary an image (OpenAI); not offered",
        answers={},
        problems=(401, 404, 503),
        error_model=OpenAIError,
        other_credential="api-key",
    ),
)
GROUP: Final = RouteGroup(OpenAIGenerationRoutes.of, OPERATIONS)
