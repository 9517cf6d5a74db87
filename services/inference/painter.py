"""The painter: an engine that needs neither a GPU nor a model, for development and tests.

    prompt ─read─▶ Reading ─choose─▶ Palette ─strokes─▶ canvas ─finish─▶ picture

It reads words, it understands nothing: the pictures are generated landscapes and patterns whose colours, things and
weather come from the prompt, and whose composition comes from the seed. The same order gives the same bytes in every
process. Every picture and the capabilities say that this is a stand-in.
"""

from __future__ import annotations

import io
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from PIL import Image, ImageChops, ImageEnhance, ImageFilter
from PIL.PngImagePlugin import PngInfo

from services.inference.engine import EngineCapabilities, InferenceRequest, ModelCard, OnStep, PaintedPicture, Preview
from services.inference.painting import brushes, palette, scenes, vocabulary
from services.inference.painting.canvas import Canvas, chance

NOTICE = "Development stand-in: pictures are drawn by rules from the words of the prompt, no model is involved."
SOFTWARE = "Darkroom painter 1 (development stand-in, not a model)"
PREVIEW_SIDE = 256  # pixels of the longer side at most
SAMPLERS = ("Euler", "Euler a", "DDIM", "DPM++ 2M", "DPM++ 2M Karras", "UniPC")


class PainterEngine:
    """Answers to the model `sdxl`, so that the playground's default order works, and to `painter`, its true name."""

    name = "painter"

    def __init__(self, *, step_delay_s: float = 0.0, pause: Callable[[float], None] = time.sleep) -> None:
        self._step_delay_s = step_delay_s
        self._pause = pause
        names = {"sdxl": "SDXL (stand-in)", "painter": "Painter"}
        models = tuple(ModelCard(id=model, name=name, samplers=SAMPLERS) for model, name in names.items())
        self._capabilities = EngineCapabilities(engine=self.name, notice=NOTICE, models=models, samplers=SAMPLERS)

    def capabilities(self) -> EngineCapabilities:
        return self._capabilities

    def paint(self, order: InferenceRequest, on_step: OnStep) -> PaintedPicture:
        seed = order.seed if order.seed >= 0 else secrets.randbelow(2**32)
        canvas = _canvas(order, seed)
        work = scenes.strokes(canvas)
        for step in range(order.steps):
            # With more steps than strokes some steps are light, with fewer each takes several.
            for stroke in work[len(work) * step // order.steps : len(work) * (step + 1) // order.steps]:
                stroke()
            if self._step_delay_s:
                self._pause(self._step_delay_s)
            on_step(step + 1, order.steps, partial(_preview, canvas, order))
        content = _encode(_finish(canvas, order, seed), order, seed)
        return PaintedPicture(content=content, format=order.format, width=order.width, height=order.height, seed=seed)


def _canvas(order: InferenceRequest, seed: int) -> Canvas:
    reading = vocabulary.read(order.prompt, order.negative_prompt)
    rng = chance(seed, "scene")
    # What the words leave open depends on them too, or all unknown prompts of a seed would look alike.
    open_to = chance(seed, "open", *reading.subjects, *reading.hues)
    if not reading.grounds:
        reading = replace(reading, grounds=(open_to.choice(scenes.fitting(reading)),))
    colours = palette.choose(reading, open_to)
    width, height = order.width, order.height
    horizon = height * rng.uniform(0.54, 0.66)
    low = colours.darkness if colours.darkness < 0.8 else 0.0  # at sunset the light stands low, by night and day high
    side = rng.choice((0.3, 0.7)) + rng.uniform(-0.1, 0.1)
    sun = (width * side, horizon * (rng.uniform(0.2, 0.42) + 0.75 * low))
    if "mountain" in reading.grounds:  # above the peaks
        sun = (sun[0], min(sun[1], horizon * 0.42))
    steps = order.steps * (1.6 if order.hires_fix else 1.0)
    return Canvas(
        image=Image.new("RGB", (width, height)),
        reading=reading,
        palette=colours,
        composition=str(seed),
        finesse=min(1.0, steps / 30) ** 0.7,
        horizon=horizon,
        sun=sun,
    )


def _preview(canvas: Canvas, order: InferenceRequest) -> Preview:
    """The canvas as it is, reduced, in the colours that it will have: 4 ms for a megapixel."""
    small = canvas.image.reduce(max(1, math.ceil(max(canvas.size) / PREVIEW_SIDE)))
    file = io.BytesIO()
    _graded(replace(canvas, image=small), order.cfg_scale).save(file, "JPEG", quality=85, comment=NOTICE)
    return Preview(content=file.getvalue(), format="jpeg")


def _finish(canvas: Canvas, order: InferenceRequest, seed: int) -> Image.Image:
    """What holds the layers together: one light, one set of colours, one grain."""
    image, moods = _graded(canvas, order.cfg_scale), canvas.reading.moods
    if order.steps < 12:  # a sketch is soft
        image = image.filter(ImageFilter.GaussianBlur(canvas.unit * 0.0004 * (12 - order.steps)))
    if "blur" in moods:
        image = image.filter(ImageFilter.GaussianBlur(canvas.unit * 0.004))
    if order.hires_fix:
        image = image.filter(ImageFilter.UnsharpMask(radius=2, percent=60, threshold=2))
    # Every field that may change the picture is in the grain, so no two orders give the same bytes. It also hides the
    # steps of gradients, which eight bits are too few for: that takes 2 to each side.
    fields = order.model_dump(exclude={"model", "seed", "num_images", "format"})
    strength = 22 if "grain" in moods else 2 if "grain" in canvas.reading.avoided else 7
    noise = brushes.grain(image.size, chance(seed, *fields.values()), strength)
    return ImageChops.add(image, Image.merge("RGB", (noise,) * 3), scale=1, offset=-128)


def _graded(canvas: Canvas, cfg_scale: float) -> Image.Image:
    """Bloom, colour and contrast (more of both with a higher `cfg_scale`), darker corners."""
    image, moods, (width, height) = canvas.image, canvas.reading.moods, canvas.size
    small = image.resize((max(1, width // 4), max(1, height // 4)), Image.Resampling.BOX)
    bloom = small.filter(ImageFilter.GaussianBlur(canvas.unit / 4 * 0.02)).resize(image.size, Image.Resampling.BICUBIC)
    image = Image.blend(image, ImageChops.soft_light(image, bloom), 0.3)
    image = ImageChops.screen(image, bloom.point([max(0, value - 150) // 3 for value in range(256)] * 3))
    drive = (cfg_scale - 7.5) / 22.5  # -⅓ … 1
    colourful = 1.06 + drive * 0.5 + 0.3 * ("vivid" in moods) - 0.3 * ("muted" in moods)
    image = ImageEnhance.Color(image).enhance(0.0 if "mono" in moods else colourful)
    image = ImageEnhance.Contrast(image).enhance(1.03 + drive * 0.22 - 0.08 * ("muted" in moods))
    middle = brushes.glow(image.size, (width / 2, height / 2), (width * 0.95, height * 0.95), 0.45)
    return Image.composite(image, image.point([round(value * 0.72) for value in range(256)] * 3), middle)


def _encode(image: Image.Image, order: InferenceRequest, seed: int) -> bytes:
    file = io.BytesIO()
    if order.format == "png":
        info = PngInfo()
        info.add_text("Software", SOFTWARE)
        info.add_text("Comment", NOTICE)
        info.add_text("Seed", str(seed))
        image.save(file, "PNG", pnginfo=info, compress_level=4)  # 6 takes three times as long to save 4 %
    elif order.format == "jpeg":
        image.save(file, "JPEG", quality=92, comment=NOTICE)
    else:
        image.save(file, "WEBP", quality=90, method=2)
    return file.getvalue()
