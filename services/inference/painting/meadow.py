"""The meadow: grass and flowers in the foreground."""

from __future__ import annotations

import math
from random import Random

from services.inference.painting import brushes
from services.inference.painting.brushes import Draw, Point
from services.inference.painting.canvas import Canvas
from services.inference.painting.land import is_wintry, ridge, soft
from services.inference.painting.palette import Colour, colour, lit, mix, named

WILD = ("#e5484d", "#f7c948", "#f5eef8", "#b57edc", "#6f8fe8")  # flowers of a meadow that names no colour


def meadow(canvas: Canvas) -> None:
    """The foreground: grass, and flowers that grow larger towards the viewer."""
    rng = canvas.rng("meadow")
    height = canvas.size[1]
    top = canvas.horizon + (height - canvas.horizon) * 0.42
    line = soft(canvas, rng, top, canvas.unit * 0.03, 2)
    green = canvas.palette.local(colour("#e4ecf4" if is_wintry(canvas) else "#5d8f36"))
    ridge(
        canvas, "meadow", line, (lit(green, 0.1), mix(green, canvas.palette.near, 0.55)), reach=height - top, relief=0.1
    )
    for row in range(3):
        _grass(canvas, rng, green, top + (height - top) * (0.1 + 0.35 * row), row)


def _grass(canvas: Canvas, rng: Random, green: Colour, y: float, row: int) -> None:
    width, height = canvas.size
    tall = canvas.unit * (0.02 + 0.035 * row)

    def blades(pen: Draw, k: int) -> None:
        for _ in range(canvas.some(260, 60)):
            x, foot = rng.random() * width, y + rng.random() * (height - y + tall)
            bend, rise, half = rng.uniform(-0.5, 0.5) * tall, tall * rng.uniform(0.5, 1.2), tall * 0.035
            points = [(x - half, foot), (x + bend * 0.3, foot - rise * 0.6), (x + bend, foot - rise), (x + half, foot)]
            pen.polygon([(a * k, b * k) for a, b in points], fill=rng.randint(90, 255))

    mask = brushes.outline(canvas.size, blades)
    canvas.image.paste(mix(lit(green, 0.28), canvas.palette.light, 0.12), mask=brushes.scaled(mask, 0.6))


def blooms(canvas: Canvas, row: int) -> None:
    """One depth of flowers over the meadow."""
    rng = canvas.rng(f"blooms {row}")
    width, height = canvas.size
    top = canvas.horizon + (height - canvas.horizon) * 0.45
    y, size = top + (height - top) * (0.04 + 0.3 * row), canvas.unit * (0.005 + 0.0075 * row**1.25)
    green = canvas.palette.local(colour("#4c7d33"))
    said = [named(word) for thing, word in canvas.reading.coloured if thing in ("meadow", "flower")]
    own = said or list(canvas.palette.accents if canvas.reading.colours else map(colour, WILD))
    dim = 0.15 + 0.5 * canvas.palette.darkness
    layer = brushes.Coloured(canvas.size, mix(own[0], canvas.palette.near, 0.5))
    flowers = sorted((rng.random() ** 1.3, rng.random()) for _ in range(canvas.some(120 / (1 + row * 0.7), 16)))
    for down, across in flowers:  # farther ones first
        x, flower_y = across * width, y + down * (height - y) * 0.5
        radius, start, count = size * rng.uniform(0.7, 1.25), rng.random() * math.tau, rng.choice((5, 5, 6, 8))
        at = rng.randrange(len(own))
        tone = lit(own[at], -dim * rng.uniform(0.5, 0.9))  # mixed with what is near, yellow would turn to mud
        layer.polygon(
            [(x - size * 0.06, flower_y), (x + size * 0.06, flower_y), (x, flower_y + size * 3)], lit(green, -0.2)
        )
        for turn in range(count):
            angle = start + turn * math.tau / count
            # petals that point up catch the light, those in front lie in shade
            layer.polygon(
                _petal(x, flower_y, radius, angle, 0.42), lit(tone, rng.uniform(-0.04, 0.06) - 0.12 * math.sin(angle))
            )
        heart = mix(colour("#3b2a1a") if at % 2 == 0 else colour("#f2b632"), canvas.palette.near, dim * 0.8)
        layer.ellipse(x, flower_y - radius * 0.06, radius * 0.26, radius * 0.2, heart)
    layer.lay(canvas.image)


def _petal(x: float, y: float, radius: float, angle: float, wide: float) -> list[Point]:
    """Seen from a little above: flattened to three quarters."""
    points = ((0.1, 0.0), (0.5, wide * 0.8), (0.9, wide * 0.6), (1.0, 0.0), (0.9, -wide * 0.6), (0.5, -wide * 0.8))
    cos, sin = math.cos(angle), math.sin(angle)
    return [(x + radius * (a * cos - b * sin), y + radius * (a * sin + b * cos) * 0.75) for a, b in points]
