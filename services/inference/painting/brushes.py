"""Brushes: soft masks, gradients, noise and smooth outlines, in Pillow alone.

Masks are `L` images of the canvas' size, 0 untouched … 255 covered. What is soft is drawn small and enlarged, what has
an edge is drawn at twice the size and reduced. Nothing here knows what it paints. `Image.effect_noise` is not used: it
draws from C's rand(), which cannot be seeded, so the same order would not give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from random import Random

from PIL import Image, ImageChops, ImageDraw

from services.inference.painting.palette import Colour, along

Size = tuple[int, int]
Point = tuple[float, float]
Draw = ImageDraw.ImageDraw

SHARP = 2  # times the canvas: an outline is drawn this much larger, then reduced, which smooths its steps
_SHADES = 96  # samples of a gradient; enlarging interpolates between them, and the grain hides the last steps


def gradient(size: Size, stops: Sequence[Colour], *, sideways: bool = False) -> Image.Image:
    """Colours from top to bottom (or left to right), mixed in OKLab."""
    strip = Image.new("RGB", (1, _SHADES))
    strip.putdata([along(stops, at / (_SHADES - 1)) for at in range(_SHADES)])
    if sideways:
        strip = strip.transpose(Image.Transpose.ROTATE_90)
    return strip.resize(size, Image.Resampling.BICUBIC)


def fade(size: Size, levels: Sequence[float]) -> Image.Image:
    """A mask from top to bottom, through evenly spaced levels 0 … 1."""
    strip = Image.new("L", (1, len(levels)))
    strip.putdata([round(level * 255) for level in levels])
    return strip.resize(size, Image.Resampling.BILINEAR)


@lru_cache(maxsize=32)
def _disc(power: float) -> Image.Image:
    """256×256: 255 in the middle, falling to 0 at the rim; a higher power falls sooner."""
    # Pillow's gradient reaches 255 in the corners, so the rim of the largest circle inside lies at 255/√2.
    table = [round(255 * max(0.0, 1 - distance / 180) ** power) for distance in range(256)]
    return Image.radial_gradient("L").point(table)


def glow(size: Size, centre: Point, radius: Point, power: float = 2.0) -> Image.Image:
    """A soft round mask; the centre may lie outside."""
    shrink = 4 if max(radius) > 96 else 1  # what is this large is smooth enough to be drawn at a quarter
    small = (max(1, math.ceil(size[0] / shrink)), max(1, math.ceil(size[1] / shrink)))
    mask = Image.new("L", small)
    width, height = (max(2, round(2 * r / shrink)) for r in radius)
    spot = _disc(power).resize((width, height), Image.Resampling.BILINEAR)
    mask.paste(spot, (round(centre[0] / shrink - width / 2), round(centre[1] / shrink - height / 2)))
    return mask if shrink == 1 else mask.resize(size, Image.Resampling.BICUBIC)


def fog(size: Size, rng: Random, *, cells: int, octaves: int, stretch: float = 1.0) -> Image.Image:
    """Cloudy noise around 128: `cells` patches over the longer side, `octaves` of finer ones in them.

    `stretch` above 1 draws it out sideways.
    """
    half = (max(1, size[0] // 2), max(1, size[1] // 2))
    side = max(size)
    noise: Image.Image | None = None
    layers = []
    for octave in range(octaves):
        count = cells * 2**octave
        columns = max(2, round(count * size[0] / side / stretch))
        rows = max(2, round(count * size[1] / side))
        layers.append(Image.frombytes("L", (columns, rows), rng.randbytes(columns * rows)))
    for layer in reversed(layers):  # finest first: each blend halves what is there already
        grown = layer.resize(half, Image.Resampling.BICUBIC)
        noise = grown if noise is None else Image.blend(noise, grown, 0.58)
    assert noise is not None  # octaves is at least 1
    return noise.resize(size, Image.Resampling.BILINEAR)


def levels(mask: Image.Image, low: float, high: float, strength: float = 1.0) -> Image.Image:
    """The mask with `low` … `high` (0 … 1) stretched smoothly to 0 … `strength`."""
    table = []
    for value in range(256):
        share = min(max((value / 255 - low) / (high - low), 0.0), 1.0)
        table.append(round(255 * strength * share * share * (3 - 2 * share)))
    return mask.point(table)


def scaled(mask: Image.Image, strength: float) -> Image.Image:
    return mask.point(_scale(round(strength, 3)))


@lru_cache(maxsize=1024)
def _scale(strength: float) -> list[int]:
    return [round(value * strength) for value in range(256)]


def grain(size: Size, rng: Random, strength: int) -> Image.Image:
    """Fine noise around 128, `strength` to each side; two rolls added, so that most of it is small."""
    count = size[0] * size[1]
    rolls = [Image.frombytes("L", size, rng.randbytes(count)) for _ in range(2)]
    mean = Image.blend(rolls[0], rolls[1], 0.5)
    return mean.point([round(128 + (value - 127.5) / 127.5 * strength) for value in range(256)])


def outline(size: Size, draw: Callable[[Draw, int], None]) -> Image.Image:
    """A mask with smooth edges: `draw` gets a pen and the factor by which it has to draw larger."""
    large = Image.new("L", (size[0] * SHARP, size[1] * SHARP))
    draw(ImageDraw.Draw(large), SHARP)
    return large.reduce(SHARP)


class Coloured:
    """Polygons and ellipses in colours of their own, with smooth edges: drawn on a layer that is then laid on."""

    def __init__(self, size: Size, ground: Colour) -> None:
        large = (size[0] * SHARP, size[1] * SHARP)
        self._layer, self._mask = Image.new("RGB", large, ground), Image.new("L", large)
        self._pens = (ImageDraw.Draw(self._layer), ImageDraw.Draw(self._mask))

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        scaled_points = [(x * SHARP, y * SHARP) for x, y in points]
        self._pens[0].polygon(scaled_points, fill=fill)
        self._pens[1].polygon(scaled_points, fill=255)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        box = ((x - rx) * SHARP, (y - ry) * SHARP, (x + rx) * SHARP, (y + ry) * SHARP)
        self._pens[0].ellipse(box, fill=fill)
        self._pens[1].ellipse(box, fill=255)

    def lay(self, image: Image.Image) -> None:
        image.paste(self._layer.reduce(SHARP), mask=self._mask.reduce(SHARP))


def area(size: Size, points: Sequence[Point]) -> Image.Image:
    """The inside of a polygon as a mask."""
    return outline(size, lambda pen, k: pen.polygon([(x * k, y * k) for x, y in points], fill=255))


def light(image: Image.Image, colour: Colour, mask: Image.Image, strength: float = 1.0) -> None:
    """Adds light of a colour (screen), where the mask is."""
    lamp = Image.new("RGB", image.size)
    lamp.paste(colour, mask=scaled(mask, strength) if strength != 1.0 else mask)
    image.paste(ImageChops.screen(image, lamp))


def shifted(mask: Image.Image, dx: int, dy: int) -> Image.Image:
    """Moved; what moves in from outside is what was there before (`ImageChops.offset` would bring in the far side)."""
    moved = mask.copy()
    moved.paste(mask, (dx, dy))
    return moved


def rim(mask: Image.Image, dx: int, dy: int) -> Image.Image:
    """The edge of a mask that faces (dx, dy): where light from there falls."""
    return ImageChops.subtract(mask, shifted(mask, -dx, -dy))


def crooked(rng: Random, count: int, roughness: float) -> list[float]:
    """`count` heights, about -1 … 1, by midpoint displacement: finer ones keep the shape of coarser ones."""
    heights = [rng.uniform(-0.5, 0.5) for _ in range(4)]
    spread = 0.62
    while len(heights) < count:
        between = [(a + b) / 2 + rng.uniform(-spread, spread) for a, b in pairwise(heights)]
        heights = [value for pair in zip(heights, [*between, 0.0], strict=True) for value in pair][:-1]
        spread *= roughness
    return heights


def rolling(rng: Random, waves: int) -> Callable[[float], float]:
    """A smooth line, about -1 … 1 over 0 … 1, of a few sines."""
    parts = [(rng.uniform(0.5, 1.0) / (k + 1), rng.uniform(0.6, 1.4) * (k + 1), rng.random()) for k in range(waves)]
    whole = sum(height for height, _, _ in parts)
    return lambda x: sum(h * math.sin(math.tau * (x * turns + start)) for h, turns, start in parts) / whole


def smooth(points: Sequence[Point], detail: int = 8) -> list[Point]:
    """A closed curve through the points (Catmull-Rom)."""
    curve: list[Point] = []
    count = len(points)
    for at in range(count):
        before, here, there, after = (points[(at + k) % count] for k in (-1, 0, 1, 2))
        for step in range(detail):
            t = step / detail
            curve.append((_between(t, before[0], here[0], there[0], after[0]),
                          _between(t, before[1], here[1], there[1], after[1])))  # fmt: skip
    return curve


def _between(t: float, before: float, here: float, there: float, after: float) -> float:
    return 0.5 * (
        2 * here
        + (there - before) * t
        + (2 * before - 5 * here + 4 * there - after) * t * t
        + (3 * here - before - 3 * there + after) * t * t * t
    )
