"""The engine that paints with diffusers.

    order ─▶ LoadedModels (load, or wait for it) ─▶ pipeline, step by step ─▶ the encoded picture

A hires fix is two passes: half of each side, then the whole from the enlarged picture.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from PIL import Image

from common.runtime.clock import Clock
from services.diffusers_engine import pipelines
from services.diffusers_engine.loaded_models import LoadedModels
from services.diffusers_engine.model_files import Family, ModelFiles, find_models
from services.diffusers_engine.pipelines import LoadedPipeline, LoadFailed
from services.diffusers_engine.previews import unpacked
from services.diffusers_engine.prompts import prompt_arguments
from services.diffusers_engine.samplers import samplers_of
from services.inference.engine import (
    MIN_SIDE,
    EngineCapabilities,
    InferenceRequest,
    ModelCard,
    OnStep,
    OrderRefused,
    PaintedPicture,
    PictureFormat,
    Preview,
)

log = logging.getLogger(__name__)

FIRST_PASS: Final = 0.5  # of each side; the other back ends with a hires fix do the same
SECOND_PASS: Final = 0.5  # of the steps: enough to draw new details, and too few to change the composition
_GRID: Final = {Family.SD: 8, Family.SDXL: 8, Family.FLUX: 16}  # Flux packs 2 × 2 cells of its latents


class DiffusersEngine:
    """Paints with the models in a folder, on the GPU if there is one.

    The same order gives the same bytes on the same machine with the same versions, with every sampler.
    """

    name = "diffusers"

    def __init__(self, models: tuple[ModelFiles, ...], *, max_loaded: int, clock: Clock) -> None:
        self._files = {files.id: files for files in models}
        self._loaded = LoadedModels(
            lambda name: pipelines.load(self._files[name], clock), pipelines.release, limit=max_loaded
        )
        self._capabilities = _capabilities(models)

    @property
    def loading(self) -> tuple[str, ...]:
        return self._loaded.loading

    def capabilities(self) -> EngineCapabilities:
        return self._capabilities

    def paint(self, order: InferenceRequest, on_step: OnStep) -> PaintedPicture:
        seed = order.seed if order.seed >= 0 else Random().getrandbits(32)
        try:
            image = self._image(order, seed, on_step) or self._image_with_more_memory(order, seed, on_step)
        except LoadFailed as error:
            raise OrderRefused(f"{error}; the log of the inference server has the reason") from error
        if image is None:
            raise OrderRefused(
                f"out of memory: a picture of {order.width} × {order.height} is too large for {order.model}"
            )
        content = _encode(image, order.format)
        return PaintedPicture(content=content, format=order.format, width=order.width, height=order.height, seed=seed)

    def _image_with_more_memory(self, order: InferenceRequest, seed: int, on_step: OnStep) -> Image.Image | None:
        """Try again without the models that are loaded and not used, if there are any."""
        return self._image(order, seed, on_step) if self._loaded.release_idle(but=order.model) else None

    def _image(self, order: InferenceRequest, seed: int, on_step: OnStep) -> Image.Image | None:
        """The picture; None if the memory does not suffice."""
        try:
            with self._loaded.use(order.model) as model:
                return _Painting(model, order, seed, on_step).paint()
        except Exception as error:
            if not pipelines.is_out_of_memory(error):
                raise
            log.warning("out of memory: %d × %d with model %s: %s", order.width, order.height, order.model, error)
        return None


def open_engine(folder: Path, *, max_loaded: int, clock: Clock) -> DiffusersEngine:
    """The engine for the models in a folder. Takes seconds, because diffusers and torch were imported for it.

    Raises:
        Misconfigured: there is no model.
    """
    engine = DiffusersEngine(find_models(folder), max_loaded=max_loaded, clock=clock)
    names = ", ".join(card.id for card in engine.capabilities().models)
    log.info("diffusers %s on %s, models: %s", pipelines.VERSION, pipelines.device(), names)
    return engine


class _Painting:
    """One picture with a loaded model, which no other thread uses meanwhile."""

    def __init__(self, model: LoadedPipeline, order: InferenceRequest, seed: int, on_step: OnStep) -> None:
        self._model, self._order, self._on_step = model, order, on_step
        self._is_flux = model.files.family is Family.FLUX
        # On the CPU, so that the noise is the same on every device.
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._done = 0
        self._prompt = prompt_arguments(model.text_to_image, model.files.family, order.prompt, order.negative_prompt)
        model.use_sampler(samplers_of(model.files.family)[order.sampler], seed=seed, steps=order.steps)

    def paint(self) -> Image.Image:
        self._on_step(0, self._order.steps)  # nobody may wait any more, after the load of a model
        size = (self._order.width, self._order.height)
        if not self._order.hires_fix:
            return self._run(self._model.text_to_image, size)
        small = self._run(self._model.text_to_image, self._first_size(), is_first=True)
        large = small.resize(size, Image.Resampling.LANCZOS)
        return self._run(self._model.image_to_image, size, image=large, strength=self._strength())

    def _run(self, pipeline: Any, size: tuple[int, int], *, is_first: bool = False, **more: Any) -> Image.Image:
        before = self._done

        def after_step(running: Any, _step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            self._done += 1
            total = before + running.num_timesteps + (self._steps_of_second(running) if is_first else 0)
            self._on_step(self._done, total, partial(self._preview, values["latents"], size))
            return values

        result = pipeline(
            width=size[0],
            height=size[1],
            num_inference_steps=self._order.steps,
            guidance_scale=self._order.cfg_scale,
            generator=self._generator,
            callback_on_step_end=after_step,
            callback_on_step_end_tensor_inputs=["latents"],
            **self._prompt,
            **self._model.extra,
            **more,
        )
        if any(getattr(result, "nsfw_content_detected", None) or ()):
            raise OrderRefused("the safety checker of the model has held the picture back")
        image: Image.Image = result.images[0]
        return image

    def _preview(self, latents: torch.Tensor, size: tuple[int, int]) -> Preview:
        return self._model.colours.preview(unpacked(latents, size) if self._is_flux else latents, size)

    def _first_size(self) -> tuple[int, int]:
        grid = _GRID[self._model.files.family]
        sides = (self._order.width, self._order.height)
        width, height = (max(MIN_SIDE, round(side * FIRST_PASS / grid) * grid) for side in sides)
        return width, height

    @property
    def _second_steps(self) -> int:
        return max(1, round(self._order.steps * SECOND_PASS))

    def _strength(self) -> float:
        """The share of the steps that gives exactly `_second_steps`: diffusers rounds it down, for Flux the rest."""
        nudge = -0.01 if self._is_flux else 0.01
        return min(1.0, (self._second_steps + nudge) / self._order.steps)

    def _steps_of_second(self, running: Any) -> int:
        """How often the second pass will report: some schedulers take two half steps for one."""
        skipped = self._order.steps - self._second_steps
        return len(running.scheduler.timesteps) - skipped * int(running.scheduler.order)


def _capabilities(models: tuple[ModelFiles, ...]) -> EngineCapabilities:
    cards = tuple(_card(files) for files in models)
    samplers: Mapping[str, None] = dict.fromkeys(name for card in cards for name in card.samplers)
    return EngineCapabilities(
        engine=f"diffusers {pipelines.VERSION}", notice="", models=cards, samplers=tuple(samplers)
    )


def _card(files: ModelFiles) -> ModelCard:
    return ModelCard(
        id=files.id,
        name=files.id,
        samplers=tuple(samplers_of(files.family)),
        grid=_GRID[files.family],
        negative_prompt=files.family is not Family.FLUX,
    )


def _encode(image: Image.Image, kind: PictureFormat) -> bytes:
    file = io.BytesIO()
    # Each format ignores the options of the others. PNG's level 6 takes three times as long as 4 to save 4 %.
    image.save(file, kind, compress_level=4, quality=90, method=2)
    return file.getvalue()
