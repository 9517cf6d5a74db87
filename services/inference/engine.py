"""The interface of an engine that paints pictures.

It does not know HTTP. The app calls `paint` in worker threads, up to `concurrency` at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

PictureFormat = Literal["png", "jpeg", "webp"]

MIN_SIDE, MAX_SIDE, SIDE_STEP = 64, 2048, 8  # pixels; the latent space of diffusion models has one cell for 8×8
MAX_STEPS, MAX_CFG_SCALE, MAX_PROMPT = 150, 30.0, 4_000  # as Darkroom sends them

Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE, multiple_of=SIDE_STEP)]


class Stopped(Exception):
    """No client waits for the picture any more. `on_step` raises it, and the engine must not catch it."""


class OrderRefused(Exception):
    """The engine cannot paint this order, now or later; the text is for its owner."""


class _Frozen(BaseModel):
    # Strict: "512" is not accepted as a number, because it would hide a bug of the client. Without
    # protected_namespaces=(), pydantic warns about fields whose names begin with `model`.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class InferenceRequest(_Frozen):
    """One order; the defaults are the same as in the playground."""

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
    """One model: its id, the name that users see, and the limits of its orders."""

    id: str
    name: str
    samplers: tuple[str, ...]
    max_width: int = MAX_SIDE
    max_height: int = MAX_SIDE
    max_steps: int = MAX_STEPS
    grid: int = SIDE_STEP  # both sides must be multiples of it
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
    """What an engine can do; `notice` is a text for users."""

    engine: str
    notice: str
    models: tuple[ModelCard, ...]
    samplers: tuple[str, ...]
    formats: tuple[PictureFormat, ...] = ("png", "jpeg", "webp")
    limits: EngineLimits = EngineLimits()


class PaintedPicture(_Frozen):
    """A finished picture; `seed` is the one that was used, also if the order had -1."""

    content: bytes
    format: PictureFormat
    width: int
    height: int
    seed: int


class Preview(_Frozen):
    """A small image of a picture that is not finished."""

    content: bytes
    format: PictureFormat


class OnStep(Protocol):
    """Called after each step; with step 0 also before. `show` makes a preview of the state, during this call only."""

    def __call__(self, step: int, steps: int, show: Callable[[], Preview] | None = None, /) -> None: ...


class Engine(Protocol):
    """Paints pictures. Both methods are thread-safe."""

    name: str

    @property
    def loading(self) -> tuple[str, ...]:
        """The models that are being loaded now."""

    def capabilities(self) -> EngineCapabilities:
        """Return what may be ordered. Called for each request, so it must be fast."""

    def paint(self, order: InferenceRequest, on_step: OnStep) -> PaintedPicture:
        """Paint one picture in the calling thread, and call `on_step` after each step.

        Steps are numbered from 1 to `steps`, the number that the engine takes: with some samplers it is not the ordered
        one. The picture has exactly the size and the format
        of the order. If the seed is -1, the engine chooses one and returns it.

        Raises:
            Stopped: `on_step` raised it; there is no picture.
            OrderRefused: it cannot paint this order.
        """
