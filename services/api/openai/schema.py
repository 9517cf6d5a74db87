"""The models of OpenAI's requests and answers, as far as they are served here; docs/openai.md lists each field.

Source: openai-openapi and the types of openai-python 3.57. Every optional field may be null.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from common.domain.errors import Invalid
from common.domain.images import Format
from common.domain.requests import CfgScale, PlainName, PlainText, Prompt, Seed, Steps, integral

MAX_IMAGES: Final = 10
MIN_SIDE, MAX_SIDE, SIDE_STEP = 64, 2048, 8  # as GenerationRequest has them
AUTO: Final = "auto"
_SIZE: Final = re.compile(r"([1-9][0-9]{1,3})x([1-9][0-9]{1,3})")
_SIDES: Final = "|".join(str(side) for side in range(MIN_SIDE, MAX_SIDE + 1, SIDE_STEP))
_CODES: Final = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "literal_error": "invalid_value",
    "value_error": "invalid_value",
    "none_required": "unsupported_parameter",
    "string_too_long": "string_above_max_length",
    "string_too_short": "string_below_min_length",
    "greater_than_equal": "integer_below_min_value",
    "less_than_equal": "integer_above_max_value",
}


def _size(value: str) -> str:
    match = _SIZE.fullmatch(value)
    sides = [int(side) for side in match.groups()] if match is not None else []
    if value != AUTO and not (sides and all(MIN_SIDE <= side <= MAX_SIDE and side % SIDE_STEP == 0 for side in sides)):
        raise ValueError(
            f"must be auto or <width>x<height>, such as 1024x1024; each side is a multiple of {SIDE_STEP} from "
            f"{MIN_SIDE} to {MAX_SIDE}"
        )
    return value


SizeText = Annotated[
    str, Field(json_schema_extra={"pattern": f"^(auto|({_SIDES})x({_SIDES}))$"}), AfterValidator(_size)
]
Ignored = Field(None, description="Accepted and ignored")
Extension = Field(None, description="Not OpenAI's; for clients that can send extra parameters")
Unsupported = Field(None, description="Refused unless it is null")


class ImageRequest(BaseModel):
    """The body of `POST /openai/v1/images/generations`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        title="OpenAIImageRequest",
        # one image for each stream
        json_schema_extra={
            "not": {
                "properties": {"stream": {"const": True}, "n": {"type": "integer", "minimum": 2}},
                "required": ["stream", "n"],
            }
        },
    )

    prompt: Prompt
    model: PlainName | None = None
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES), BeforeValidator(integral)] | None = 1
    size: SizeText | None = AUTO
    response_format: Literal["url", "b64_json"] | None = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] | None = "png"
    output_compression: Annotated[int, Field(ge=0, le=100), BeforeValidator(integral)] | None = None
    stream: bool | None = False
    partial_images: Annotated[int, Field(ge=0, le=3), BeforeValidator(integral)] | None = 0
    quality: Literal["standard", "hd", "low", "medium", "high", "xhigh", "max", "auto"] | None = Ignored
    style: Literal["vivid", "natural"] | None = Ignored
    background: Literal["transparent", "opaque", "auto"] | None = Ignored
    moderation: Literal["low", "auto"] | None = Ignored
    complexity: Literal["low", "medium", "high"] | None = Ignored
    user: str | None = Ignored
    safety_identifier: str | None = Ignored
    frame_count: None = Unsupported
    frame_duration_ms: None = Unsupported
    svg: None = Unsupported
    negative_prompt: PlainText | None = Extension
    steps: Steps | None = Extension
    cfg_scale: CfgScale | None = Extension
    sampler: PlainName | None = Extension
    seed: Seed | None = Extension

    @model_validator(mode="wrap")
    @classmethod
    def _refused_as_openai_does(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Raises Invalid with OpenAI's code for the first field that does not fit."""
        try:
            request = handler(value)
        except ValidationError as error:
            raise _refusal(error.errors(include_url=False)[0]) from error
        if request.stream and request.count > 1:
            raise Invalid("Streaming is only available with 'n' of 1.", code="invalid_value", fields={"n": "must be 1"})
        return request

    @property
    def count(self) -> int:
        return self.n or 1

    @property
    def sides(self) -> tuple[int, int] | None:
        """Width and height; None if the server chooses them."""
        match = _SIZE.fullmatch(self.size or AUTO)
        return (int(match[1]), int(match[2])) if match is not None else None

    @property
    def format(self) -> Format:
        return Format(self.output_format or Format.PNG)


def _refusal(found: ErrorDetails) -> Invalid:
    """The error in OpenAI's words, with the field but never the value, which may be secret."""
    field = ".".join(map(str, found["loc"]))
    kind, message = found["type"], found["msg"].removeprefix("Value error, ")
    code = _CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    detail = f"Invalid value for '{field}': {message}." if field else f"Invalid body: {message}."
    if kind == "missing":
        detail = f"Missing required parameter: '{field}'."
    if kind == "extra_forbidden":
        field = field[:100]
        detail = f"Unknown parameter: '{field}'."
    return Invalid(detail, code=code, fields={field: message} if field else None)


class OpenAIErrorBody(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """Every error below `/openai`."""

    error: OpenAIErrorBody


class TokenDetails(BaseModel):
    image_tokens: int = 0
    text_tokens: int = 0


class TokenUsage(BaseModel):
    """Darkroom counts no tokens: all are 0."""

    input_tokens: int = 0
    input_tokens_details: TokenDetails = TokenDetails()
    output_tokens: int = 0
    total_tokens: int = 0


class OpenAIPicture(BaseModel):
    """One of the two is present."""

    b64_json: str | None = None
    url: str | None = None


class OpenAIImages(BaseModel):
    created: int
    data: list[OpenAIPicture]
    output_format: Format
    size: str
    usage: TokenUsage = TokenUsage()


class OpenAIModel(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0  # not known
    owned_by: str = "darkroom"


class OpenAIModels(BaseModel):
    object: Literal["list"] = "list"
    data: list[OpenAIModel]
