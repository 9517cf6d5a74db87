"""The port of whatever paints: an order in, a picture out, a word after each step.

It must not know HTTP. The app calls `paint` in a worker thread, several at once if it was told to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

PictureFormat = Literal["png", "jpeg", "webp"]

MIN_SIDE, MAX_SIDE, SIDE_STEP = 64, 2048, 8  # pixels; diffusion models work on blocks of 8×8
MAX_STEPS, MAX_CFG_SCALE, MAX_PROMPT = 150, 30.0, 10_000  # as in AUTOMATIC1111's web UI, but for the prompt's length

Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE, multiple_of=SIDE_STEP)]


class Stopped(Exception):
    """Nobody waits for the picture any more; raised through `on_step`, an engine lets it pass."""


class _Frozen(BaseModel):
    # Strict: "512" is no number here, a client that sends it has a bug we should not hide. Names of models may begin
    # with `model`, which pydantic would otherwise keep for itself.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class InferenceRequest(_Frozen):
    """One order; the defaults are those of the playground."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT)
    negative_prompt: str = Field("", max_length=MAX_PROMPT)
    model: str = Field("sdxl", min_length=1, max_length=200)
    width: Side = 1024
    height: Side = 1024
    steps: int = Field(30, ge=1, le=MAX_STEPS)
    cfg_scale: float = Field(7.5, ge=0, le=MAX_CFG_SCALE)
    sampler: str = Field("Euler", min_length=1, max_length=200)
    seed: int = Field(-1, ge=-1, le=2**32 - 1)
    hires_fix: bool = False
    num_images: Literal[1] = 1
    format: PictureFormat = "png"


class ModelCard(_Frozen):
    """One model; `name` is for people, the rest is what an order may ask of it."""

    id: str
    name: str
    samplers: tuple[str, ...]
    max_width: int = MAX_SIDE
    max_height: int = MAX_SIDE
    max_steps: int = MAX_STEPS
    hires_fix: bool = True
    negative_prompt: bool = True


class EngineLimits(_Frozen):
    min_width: int = MIN_SIDE
    max_width: int = MAX_SIDE
    min_height: int = MIN_SIDE
    max_height: int = MAX_SIDE
    size_multiple_of: int = SIDE_STEP
    max_steps: int = MAX_STEPS
    max_cfg_scale: float = MAX_CFG_SCALE
    max_prompt_chars: int = MAX_PROMPT
    max_images: int = 1


class EngineCapabilities(_Frozen):
    """What an engine can do; `notice` is shown to people."""

    engine: str
    notice: str
    models: tuple[ModelCard, ...]
    samplers: tuple[str, ...]
    formats: tuple[PictureFormat, ...] = ("png", "jpeg", "webp")
    limits: EngineLimits = EngineLimits()


class PaintedPicture(_Frozen):
    """A finished picture; `seed` is the one it was made with, also where the order left it open."""

    content: bytes
    format: PictureFormat
    width: int
    height: int
    seed: int


class Preview(_Frozen):
    """What a picture looks like while it is painted; small."""

    content: bytes
    format: PictureFormat


class OnStep(Protocol):
    """Told after each step. `show` makes a preview of what is painted so far; it is called now, or never."""

    def __call__(self, step: int, steps: int, show: Callable[[], Preview] | None = None, /) -> None: ...


class Engine(Protocol):
    """Paints. Both methods are thread-safe."""

    name: str

    def capabilities(self) -> EngineCapabilities:
        """What may be ordered; asked at each request, so it must be quick. The app refuses other models."""

    def paint(self, order: InferenceRequest, on_step: OnStep) -> PaintedPicture:
        """Paint one picture, in the calling thread, with a call of `on_step` after each of its steps.

        Steps count from 1 to `steps`, each once. The picture has exactly the size and the format ordered. A seed of -1
        takes one at random, and says which.

        Raises:
            Stopped: from `on_step`; what was painted is dropped.
        """
