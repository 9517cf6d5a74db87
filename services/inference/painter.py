"""The stand-in engine: abstract pictures, drawn by rules from words and a seed, without a model or a GPU."""

from __future__ import annotations

import cmath
import io
import math
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter
from PIL.PngImagePlugin import PngInfo

from services.inference.engine import EngineCapabilities, InferenceRequest, ModelCard, OnStep, PaintedPicture, Preview

NOTICE = "Development stand-in: abstract pictures, drawn by rules; no model is involved."
SOFTWARE = "Darkroom painter 1 (development stand-in, not a model)"
MODELS = {"sdxl": "SDXL (stand-in)", "painter": "Painter"}  # `sdxl`, so that the playground's default request works
SAMPLERS = ("Euler", "Euler a", "DDIM", "DPM++ 2M", "DPM++ 2M Karras", "UniPC")

# What words change: hues, light (-1 night to 1 noon), colourfulness, form. Hues run from the top of the sky to the
# light at the horizon, in degrees of OKLCH: 25 red, 55 orange, 95 yellow, 145 green, 195 teal, 260 blue, 305 violet.
_TABLE: dict[str, tuple[tuple[int, ...], float, float, str]] = {
    "red crimson ruby scarlet rose lava fire": ((10, 28, 50), 0, 1, ""),
    "orange copper amber brown fox gold golden yellow honey": ((30, 65, 90), 0, 1, ""),
    "green emerald jade forest jungle aurora": ((195, 150, 110), 0, 1, ""),
    "blue azure navy sapphire sky teal turquoise cyan": ((275, 245, 205), 0, 1, ""),
    "purple violet lavender pink magenta blossom cherry": ((285, 335, 30), 0, 1, ""),
    "sea ocean lake water river pond wave waves": ((265, 235, 190), 0, 1, "waves"),
    "autumn maple desert dunes sand": ((20, 60, 80), 0, 1, "hills"),
    "mountain mountains hill hills valley garden meadow": ((), 0, 1, "hills"),
    "silk smoke flow flowing wind": ((), 0, 1, "ribbons"),
    "bubbles balloon jellyfish planet galaxy fireflies": ((), -0.2, 1, "bubbles"),
    "neon city cyberpunk": ((280, 330, 215), -0.6, 1.3, "ribbons"),
    "sunset dusk evening": ((285, 10, 65), -0.3, 1, ""),
    "sunrise dawn morning": ((265, 350, 75), 0.3, 1, ""),
    "night midnight moon stars space": ((275, 255, 230), -1, 1, ""),
    "noon day sun sunny bright summer spring": ((), 0.6, 1, ""),
    "snow snowy winter ice frost white pale": ((265, 250, 230), 0.4, 0.7, ""),
    "dark storm stormy thunderstorm mist misty fog rain grey black": ((), -0.2, 0.7, ""),
}
_MOODS = {word: mood for words, mood in _TABLE.items() for word in words.split()}
_HARMONIES = ((270, 340, 60), (285, 10, 75), (240, 200, 95), (200, 160, 95), (310, 0, 50))  # no word has a colour
# OKLab to the responses of the eye's cones, and these to linear sRGB (https://bottosson.github.io/posts/oklab/).
_CONES = ((0.39634, 0.2158), (-0.10556, -0.06385), (-0.08948, -1.29149))
_SRGB = ((4.07674, -3.30771, 0.23097), (-1.26844, 2.60976, -0.34132), (-0.0042, -0.70342, 1.70761))


def _chance(*parts: object) -> Random:
    """Random numbers that depend on the parts only; `hash` would differ in each process."""
    return Random("\x1f".join(map(str, parts)))


def _lamp() -> Image.Image:
    """The mask of a disc that fades to its bottom, in a glow three times as wide."""
    glow = [round(max(0, 1 - v / 180) ** 2 * 160) for v in range(256)]  # the gradient has 181 where it meets the edges
    lamp = Image.radial_gradient("L").point(glow).resize((768, 768))
    disc = Image.new("L", (1536, 1536))
    ImageDraw.Draw(disc).ellipse((512, 512, 1023, 1023), fill=255)
    fade = Image.linear_gradient("L").point([255 - 2 * min(80, max(0, v - 85)) for v in range(256)])
    lamp.paste(255, mask=ImageChops.multiply(disc.reduce(2), fade.resize(lamp.size)))
    return lamp


class _Canvas:
    """The picture in work, its palette, and the layers that can be painted on it."""

    def __init__(self, order: InferenceRequest, seed: int) -> None:
        self.image = Image.new("RGB", (order.width, order.height))
        self.width, self.height = self.image.size
        self.unit = math.sqrt(self.width * self.height)  # pixels; every length is a share of it
        self.finesse = min(1.0, order.steps * (1.6 if order.hires_fix else 1.0) / 30)
        self.rng = partial(_chance, seed)  # numbers for one layer: a change of one layer does not move another
        self.xs = [self.width * n / 160 for n in range(161)]  # where outlines have their points
        self.lamp = _lamp()
        words, avoided = (re.findall(r"\w+", text.lower()) for text in (order.prompt, order.negative_prompt))
        moods = [_MOODS[word] for word in words if word in _MOODS]
        rng = _chance(*words)
        # The lightest or darkest word gives the hues of the sky; two others add one hue each.
        coloured = [mood[0] for mood in sorted(moods, key=lambda mood: -abs(mood[1])) if mood[0]]
        main, *others = coloured or [rng.choice(_HARMONIES)]
        hues = [*main, *(other[1] for other in others[:2])]
        unwanted = [hue for word in avoided if word in _MOODS for hue in _MOODS[word][0]]
        kept = [hue for hue in hues if all(abs((hue - other + 180) % 360 - 180) > 32 for other in unwanted)]
        self.hues = [cmath.rect(1, math.radians(hue)) for hue in kept or [hue + 180 for hue in hues]]
        self.light = max(-1.0, min(1.0, sum(mood[1] for mood in moods))) if moods else rng.uniform(-0.5, 0.4)
        self.chroma = math.prod({mood[2] for mood in moods})
        forms = [mood[3] for mood in moods if mood[3]] or ["hills", "waves", "ribbons", "bubbles"]
        self.form = self.rng("form").choice(forms)

    def layers(self) -> list[Callable[[], None]]:
        """From back to front; the details come last."""
        rng, count = self.rng("layers"), 6 + round(4 * self.finesse)
        sun = (rng.uniform(0.2, 0.8), rng.uniform(0.22, 0.4), rng.uniform(0.08, 0.14))
        layers: list[Callable[[], None]] = [self.sky, partial(self.shine, *sun, 1.0)]
        if self.form == "ribbons":
            layers += [partial(self.ribbon, number) for number in range(4)]
        elif self.form == "bubbles":
            sizes = [0.02 + 0.16 * (n / count / 2) ** 3 for n in range(count * 2, 0, -1)]
            layers += [partial(self.shine, rng.random(), rng.random(), size, rng.random()) for size in sizes]
        else:
            layers += [partial(self.ridge, number / (count - 1)) for number in range(count)]
        sparks = [0.001 + 0.004 * rng.random() ** 4 for _ in range(24 if self.light < -0.3 else 10)]
        return layers + [partial(self.shine, rng.random(), rng.random() * 0.8, size, 1.0) for size in sparks]

    def colour(self, tone: float, place: float) -> tuple[int, ...]:
        """`tone`: 0 darkest to 1 lightest of a sky; `place`: 0 the first hue of the palette to 1 the last."""
        low, high = 0.29 + 0.14 * self.light, 0.84 + (0.13 if self.light > 0 else 0.32) * self.light
        lightness = min(0.97, low + (high - low) * tone)
        at = min(max(place, 0.0), 0.999) * (len(self.hues) - 1)
        hue = self.hues[int(at)] * (1 - at % 1) + self.hues[math.ceil(at)] * (at % 1)
        ab = hue * 0.15 * self.chroma * min(1.0, lightness / 0.4, (1.05 - lightness) / 0.25)
        cones = [(lightness + ab.real * a + ab.imag * b) ** 3 for a, b in _CONES]
        linear = [math.fsum(map(float.__mul__, row, cones)) for row in _SRGB]
        return tuple(round(255 * min(1, 1.055 * max(x, 0.0031308) ** (1 / 2.4) - 0.055)) for x in linear)

    def fade(self, *tones: float, shift: float = 0.0) -> Image.Image:
        """A smooth gradient from the top to the bottom."""
        column = Image.new("RGB", (1, len(tones)))
        column.putdata([self.colour(tone, tone + shift) for tone in tones])
        return column.resize(self.image.size, Image.Resampling.BICUBIC)

    def sky(self) -> None:
        """A gradient, and soft clouds in the colours of another place of the palette."""
        self.image.paste(self.fade(0.15, 0.35, 0.6, 0.85, 1.0))
        for shift in (0.4, -0.2):
            rng, mask = self.rng("clouds", shift), Image.new("L", self.image.size)
            for cells, weight in ((3, 1.0), (7, 0.4), (15, 0.2)):
                spots = Image.frombytes("L", (cells, cells * 2), rng.randbytes(cells * cells * 2))
                mask = Image.blend(mask, spots.resize(mask.size, Image.Resampling.BICUBIC), weight)
            self.image.paste(self.fade(0.6, 0.95, shift=shift), mask=mask.point([max(0, v - 90) for v in range(256)]))

    def shine(self, x: float, y: float, radius: float, place: float) -> None:
        """A glowing disc; at night it has the same lightness as at day."""
        side = max(2, round(self.unit * radius * 6))
        mask = self.lamp.resize((side, side), reducing_gap=2)
        box = (round(self.width * x - side / 2), round(self.height * y - side / 2))
        self.image.paste(self.colour(1.15 - 0.7 * min(0, self.light), place), box, mask)

    def curve(self, rng: Random, octaves: int) -> Callable[[float], float]:
        """The outline of hills or waves, about -1 to 1."""
        parts = [(rng.uniform(0.7, 1.3) * 1.9**n, rng.uniform(0, 9), 0.52**n) for n in range(octaves)]
        if self.form == "waves":
            return lambda x: sum(h * (0.4 - abs(math.sin(x * often * 3 + shift))) for often, shift, h in parts)
        return lambda x: sum(h * math.sin(x * often * 4 + shift) for often, shift, h in parts)

    def cover(self, outline: Sequence[tuple[float, float]], colours: Image.Image) -> Image.Image:
        """Paint the inside of an outline, with smooth edges and a shadow around it. Returns the mask."""
        mask = Image.new("L", (self.width * 2, self.height * 2))
        ImageDraw.Draw(mask).polygon([(x * 2, y * 2) for x, y in outline], fill=255)
        mask = mask.reduce(2)
        shadow = mask.filter(ImageFilter.BoxBlur(self.unit * 0.02)).point([v // 4 for v in range(256)])
        self.image.paste(self.colour(0.1, 0.0), mask=shadow)
        self.image.paste(colours, mask=mask)
        return mask

    def ridge(self, near: float) -> None:
        """A line of hills or waves with light on its crest; `near`: 0 at the horizon to 1 in front."""
        octaves = 2 if self.form == "waves" else 2 + round(self.rng("octaves").choice((0, 1, 4)) * self.finesse)
        curve = self.curve(self.rng("ridge", round(near * 100)), octaves)
        base, rise = self.height * (0.56 + 0.42 * near**1.2), self.unit * 0.06
        line = [(x, base + rise * curve(x / self.unit * (2.2 - 1.2 * near))) for x in self.xs]
        fill = ImageChops.offset(self.fade(0.75 - 0.75 * near, 0.95 - 0.7 * near), 0, round(base - self.height * 0.2))
        mask = self.cover([(0, self.height), *line, (self.width, self.height)], fill)
        lower = ImageChops.offset(mask, 0, round(self.unit * 0.012)).filter(ImageFilter.BoxBlur(self.unit * 0.006))
        rim = ImageChops.subtract(mask, lower).point([v // 3 for v in range(256)])
        self.image.paste(self.colour(1.1 - 0.5 * near, 1.0), mask=rim)

    def ribbon(self, number: int) -> None:
        """A band of silk: many narrow strips between two curves, light and dark in turn."""
        rng, silk, strips = self.rng("ribbon", number), self.image.copy(), 20 + round(100 * self.finesse)
        one, two, folds, phase = self.curve(rng, 2), self.curve(rng, 2), rng.uniform(0.7, 1.6), rng.uniform(0, 6)
        base, high, scale = self.height * (0.3 + 0.2 * number), self.unit * 0.13, 0.7 / self.unit
        ends = [(x, base + high * one(x * scale), high * (1 + 0.9 * two(x * scale))) for x in self.xs]
        edges = [[(x, y + h * strip / strips) for x, y, h in ends] for strip in range(strips + 1)]
        for strip in range(strips):
            tone = 0.6 + 0.45 * math.sin(strip / strips * folds * math.tau + phase)
            outline = edges[strip] + edges[min(strip + 2, strips)][::-1]
            ImageDraw.Draw(silk).polygon(outline, fill=self.colour(tone, strip / strips))
        self.cover(edges[0] + edges[-1][::-1], silk.filter(ImageFilter.BoxBlur(1)))


class PainterEngine:
    """Paints the same bytes for the same order, in every process."""

    name = "painter"
    loading = ()

    def __init__(self, *, step_delay_s: float = 0.0, pause: Callable[[float], None] = time.sleep) -> None:
        self._step_delay_s, self._pause = step_delay_s, pause

    def capabilities(self) -> EngineCapabilities:
        models = tuple(ModelCard(id=model, name=name, samplers=SAMPLERS) for model, name in MODELS.items())
        return EngineCapabilities(engine=self.name, notice=NOTICE, models=models, samplers=SAMPLERS)

    def paint(self, order: InferenceRequest, on_step: OnStep) -> PaintedPicture:
        seed = order.seed if order.seed >= 0 else Random().getrandbits(32)
        canvas = _Canvas(order, seed)
        layers = canvas.layers()
        for step in range(order.steps):
            # With more steps than layers some steps paint nothing; with fewer, each paints several.
            for paint_layer in layers[len(layers) * step // order.steps : len(layers) * (step + 1) // order.steps]:
                paint_layer()
            self._pause(self._step_delay_s)
            on_step(step + 1, order.steps, partial(_preview, canvas, order))
        content = _encode(_finish(canvas, order, seed), order.format, seed)
        return PaintedPicture(content=content, format=order.format, width=order.width, height=order.height, seed=seed)


def _preview(canvas: _Canvas, order: InferenceRequest) -> Preview:
    small = canvas.image.reduce(math.ceil(max(canvas.image.size) / 256))  # pixels of the longer side, at most
    return Preview(content=_encode(_grade(small, order.cfg_scale), "jpeg", order.seed), format="jpeg")


def _grade(image: Image.Image, cfg_scale: float) -> Image.Image:
    """Stronger colour and contrast with a higher `cfg_scale`; darker corners."""
    drive = (cfg_scale - 7.5) / 22.5  # -1/3 to 1
    image = ImageEnhance.Contrast(ImageEnhance.Color(image).enhance(1.05 + drive * 0.5)).enhance(1.05 + drive * 0.2)
    corners = Image.radial_gradient("L").point([round(max(0, v - 120) * 0.6) for v in range(256)]).resize(image.size)
    return Image.composite(image.point([round(v * 0.6) for v in range(256)] * 3), image, corners)


def _finish(canvas: _Canvas, order: InferenceRequest, seed: int) -> Image.Image:
    image = _grade(canvas.image, order.cfg_scale)
    image = image.filter(ImageFilter.GaussianBlur(canvas.unit * 0.0004 * max(0, 12 - order.steps)))  # a sketch is soft
    # Grain hides the bands of the gradients. Its seed holds every field, so no two orders give the same bytes.
    rng = _chance(seed, order.model_dump_json(exclude={"model", "seed", "format"}))
    noise = Image.frombytes("L", image.size, rng.randbytes(image.width * image.height))
    return Image.blend(image, Image.merge("RGB", (noise,) * 3), 0.025)


def _encode(image: Image.Image, kind: str, seed: int) -> bytes:
    file, info = io.BytesIO(), PngInfo()
    for name, text in (("Software", SOFTWARE), ("Comment", NOTICE), ("Seed", str(seed))):
        info.add_text(name, text)
    # Each format ignores the options of the others. PNG's level 6 takes three times as long as 4 to save 4 %.
    image.save(file, kind, pnginfo=info, compress_level=4, comment=NOTICE, quality=90, method=2)
    return file.getvalue()
