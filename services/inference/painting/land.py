"""Land: the layer that every ground is made of, its skylines, its relief and its mist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from PIL import Image, ImageChops

from services.inference.painting import brushes
from services.inference.painting.brushes import Draw, Point
from services.inference.painting.canvas import Canvas
from services.inference.painting.palette import Colour, mix

Line = Sequence[Point]
Growth = Callable[[Draw, int], None]


def ridge(
    canvas: Canvas,
    name: str,
    line: Line,
    tones: tuple[Colour, Colour],
    *,
    reach: float,
    growth: Growth | None = None,
    relief: float = 0.0,
    shine: float = 0.6,
) -> Image.Image:
    """One layer of land below a line of (x, y): `tones` at the crest and, `reach` pixels lower, in the mist."""
    width, height = canvas.size

    def land(pen: Draw, k: int) -> None:
        pen.polygon([(x * k, y * k) for x, y in [(-2, height + 2), *line, (width + 2, height + 2)]], fill=255)
        if growth:
            growth(pen, k)

    mask = brushes.outline(canvas.size, land)
    box = mask.getbbox()
    if box is None:
        return mask
    top = min(round(min(y for _, y in line)), height - 2)
    fill = Image.new("RGB", canvas.size, tones[1])
    fill.paste(brushes.gradient((width, max(2, round(reach))), (tones[0], mix(*tones, 0.45), tones[1])), (0, top))
    fill.paste(tones[0], (0, 0, width, max(0, top)))
    if relief:
        carve(canvas, name, fill, relief, 0.7 if name.startswith("mountain") else 2.6)
    canvas.image.paste(fill, mask=mask)
    if shine:
        step = max(1, round(canvas.unit / 380))
        edge = brushes.rim(mask, step if canvas.sun[0] > width / 2 else -step, -step)
        warmth = brushes.glow(canvas.size, canvas.sun, (canvas.unit * 0.9,) * 2, 1.3)
        brushes.light(canvas.image, canvas.palette.light, ImageChops.multiply(edge, warmth), shine)
    return mask


def carve(canvas: Canvas, name: str, fill: Image.Image, depth: float, stretch: float) -> None:
    """Light and shade as on rock (or, drawn out sideways, on soft ground): noise, lit from the side of the sun."""
    rng = canvas.rng(f"relief {name}")
    noise = brushes.fog(canvas.size, rng, cells=12, octaves=canvas.some(6, 3), stretch=stretch)
    step = max(1, round(canvas.unit * 0.006))
    lean = step if canvas.sun[0] > canvas.size[0] / 2 else -step
    if stretch < 1:  # creases instead of lumps: rock breaks where the noise crosses its middle
        noise = noise.point([255 - round(abs(value - 128) * 1.6) for value in range(256)])
    slope = ImageChops.subtract(noise, brushes.shifted(noise, lean, -step), scale=0.32 / depth, offset=128)
    fill.paste(ImageChops.overlay(fill, Image.merge("RGB", (slope,) * 3)))


def jagged(canvas: Canvas, rng: Random, base: float, tall: float, roughness: float) -> list[Point]:
    """A skyline of peaks."""
    width = canvas.size[0]
    # As many points as half the pixels at most: finer ones cannot be seen, and would cost more than all else.
    count = min(canvas.some(400, 60), max(16, width // 2))
    heights = brushes.crooked(rng, count, roughness)
    return [(at / (len(heights) - 1) * width, base - height * tall) for at, height in enumerate(heights)]


def soft(canvas: Canvas, rng: Random, base: float, tall: float, waves: int = 4) -> list[Point]:
    """A skyline of hills."""
    width, curve = canvas.size[0], brushes.rolling(rng, waves)
    return [(at / 96 * width, base - curve(at / 96) * tall) for at in range(97)]


def mist(canvas: Canvas, name: str, y: float, thick: float, strength: float) -> None:
    """A bank of haze that hides what stands behind the next layer."""
    width, height = canvas.size
    bank = Image.new("L", canvas.size)
    bank.paste(brushes.fade((width, max(4, round(thick * 2.4))), (0, 0.6, 1, 0.8, 0)), (0, round(y - thick * 0.7)))
    noise = brushes.levels(
        brushes.fog((width, height), canvas.rng(f"mist {name}"), cells=5, octaves=3, stretch=3), 0.2, 0.8
    )
    canvas.image.paste(canvas.palette.haze, mask=brushes.scaled(ImageChops.multiply(bank, noise), strength))


def is_wintry(canvas: Canvas) -> bool:
    return "winter" in canvas.reading.times or "snow" in canvas.reading.weather


def shadow(canvas: Canvas, x: float, y: float, size: float) -> None:
    """What something that stands at (x, y) takes from the light."""
    lean = (x - canvas.sun[0]) * 0.12
    mask = brushes.glow(canvas.size, (x + lean, y), (size * 0.55, size * 0.09), 1.2)
    canvas.image.paste(canvas.palette.near, mask=brushes.scaled(mask, 0.7))
