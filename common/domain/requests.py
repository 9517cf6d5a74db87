"""The request to generate an image: one model for the body over HTTP and the data of a command."""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from common.domain.errors import Invalid
from common.domain.images import Batch, Image, Parameters, Status
from common.domain.webhooks import WebhookUrl

MAX_SEED: Final = 2**32 - 1  # what torch's and every back end's generators take
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")  # all control characters but tab and newline
_LINE_BREAK: Final = re.compile("\r\n?")  # as forms and Windows programs write it
# the same as a pattern for the JSON Schema, so that the contract allows exactly what the code accepts
_CHARACTERS: Final = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*"
_ONE_NAME: Final = {"pattern": r"^[^\x00-\x08\x0b-\x1f\x7f]*$"}
_PLAIN: Final = {"pattern": f"^{_CHARACTERS}$"}
_WITH_WORDS: Final = {"pattern": rf"^{_CHARACTERS}[^\x00-\x1f\x7f\s]{_CHARACTERS}$"}


def integral(value: Any) -> Any:
    """JSON Schema calls 320.0 an integer; strict pydantic does not."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _with_newlines(value: str) -> str:
    return _LINE_BREAK.sub("\n", value)


def _plain_text(value: str) -> str:
    if found := _FORBIDDEN.search(value):
        raise ValueError(f"must not contain the control character {found.group()!r}")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


# Field must come before the validator, or the schema says "ge" instead of "minimum"
_Side = Annotated[int, Field(ge=64, le=2048, multiple_of=8), BeforeValidator(integral)]
PlainText = Annotated[
    str,
    Field(max_length=4000, json_schema_extra=_PLAIN),
    AfterValidator(_with_newlines),
    AfterValidator(_plain_text),
]
PlainName = Annotated[
    str, Field(min_length=1, max_length=100, json_schema_extra=_ONE_NAME), AfterValidator(_plain_text)
]
Prompt = Annotated[
    str,
    Field(min_length=1, max_length=4000, json_schema_extra=_WITH_WORDS),
    AfterValidator(_with_newlines),
    AfterValidator(_plain_text),
    AfterValidator(_not_blank),
]
Steps = Annotated[int, Field(ge=1, le=150), BeforeValidator(integral)]
CfgScale = Annotated[float, Field(ge=0, le=30, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-1, le=MAX_SEED, description="-1 selects a random seed"), BeforeValidator(integral)]


class GenerationRequest(BaseModel):
    """The fields of a request; names in snake_case or camelCase, unknown names are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True)

    prompt: Prompt
    negative_prompt: PlainText = ""
    model: Annotated[
        PlainName, Field(description="without it, `sdxl` if a running generator has it, else the first model of one")
    ] = "sdxl"
    width: _Side = 1024
    height: _Side = 1024
    steps: Steps = 30
    cfg_scale: CfgScale = 7.5
    sampler: PlainName = "Euler"
    seed: Seed = -1
    num_images: Annotated[
        int,
        Field(ge=1, le=10, description="how many images; the seed of each is one more than that of the image before"),
        BeforeValidator(integral),
    ] = 1
    hires_fix: bool = False
    webhook: Annotated[
        WebhookUrl | None,
        # absent, not null: the hash of a request of an older release stays the same
        Field(
            exclude_if=lambda url: url is None, description="https URL that gets the events of each image as it ends"
        ),
    ] = None

    def parameters(self) -> Parameters:
        """The parameters with a definite seed, so that the picture can be reproduced."""
        return Parameters(
            steps=self.steps,
            cfg_scale=self.cfg_scale,
            sampler=self.sampler,
            seed=secrets.randbelow(MAX_SEED + 1) if self.seed == -1 else self.seed,
            hires_fix=self.hires_fix,
        )


def new_image(
    request: GenerationRequest,
    *,
    image_id: str,
    owner: str,
    source: str,
    now: datetime,
    traceparent: str | None = None,
) -> Image:
    """The record of an accepted request: queued, and not yet sent to a worker.

    Of a request for several images it is the first, from which the others are made (`common/domain/batches.py`).
    """
    is_batch = request.num_images > 1
    return Image(
        id=image_id,
        owner=owner,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        model=request.model,
        width=request.width,
        height=request.height,
        parameters=request.parameters(),
        status=Status.QUEUED,
        created_at=now,
        source=source,
        traceparent=traceparent,
        webhook=request.webhook,
        batch=Batch(id=image_id, index=0, count=request.num_images) if is_batch else None,
        batch_due=now if is_batch else None,
    )


def validation_failed(error: ValidationError, what: str) -> Invalid:
    """`Invalid` from pydantic's error: each field with what was expected, never the value, which may be secret."""
    fields = {".".join(map(str, found["loc"])) or "body": found["msg"] for found in error.errors(include_url=False)}
    listed = "; ".join(f"{field}: {message}" for field, message in fields.items())
    return Invalid(f"{what} is not valid: {listed}"[:1000], code="invalid_request", fields=fields)
