"""The city: blocks of houses, and the windows that are lit in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from services.inference.painting import brushes
from services.inference.painting.brushes import Draw
from services.inference.painting.canvas import Canvas
from services.inference.painting.palette import colour, mix


def city(canvas: Canvas, layer: int, of: int) -> None:
    rng = canvas.rng(f"city {layer}")
    near = layer / max(1, of - 1)
    width, height = canvas.size
    wet = bool({"sea", "lake"} & set(canvas.reading.grounds))
    base = canvas.horizon if wet else canvas.horizon + (height - canvas.horizon) * (0.1 + 0.85 * near)
    tall = canvas.unit * (0.3 + (0.04 if wet else 0.16) * near)
    own = mix(
        canvas.palette.local(colour("#3f4560"), 0.6 * (1 - near), said=canvas.reading.colour_of("city")),
        canvas.palette.near,
        0.3 * near,
    )
    houses: list[tuple[float, float, float, int]] = []
    x = -canvas.unit * 0.05
    middle = rng.uniform(0.3, 0.7)
    while x < width:
        wide = canvas.unit * rng.uniform(0.028, 0.075) * (0.8 + 0.7 * near)
        rise = tall * rng.uniform(0.25, 0.75) * (0.55 + 0.75 * math.exp(-(((x / width - middle) * 2.6) ** 2)))
        houses.append((x, wide, rise * rng.choice((1, 1, 1, 1.35)), rng.randrange(6)))
        x += wide * rng.uniform(0.9, 1.15)

    def blocks(pen: Draw, k: int) -> None:
        for x, wide, rise, roof in houses:
            top = base - rise
            pen.rectangle((x * k, top * k, (x + wide) * k, (height + 2) * k if not wet else base * k), fill=255)
            mid = x + wide / 2
            if roof == 0:  # a mast
                pen.line(
                    (mid * k, top * k, mid * k, (top - rise * 0.22) * k), fill=255, width=max(1, round(wide * 0.07 * k))
                )
            elif roof == 1:
                pen.polygon([(x * k, top * k), (mid * k, (top - wide * 0.7) * k), ((x + wide) * k, top * k)], fill=255)
            elif roof == 2:
                pen.rectangle(((x + wide * 0.2) * k, (top - wide * 0.3) * k, (x + wide * 0.8) * k, top * k), fill=255)

    line = [(0.0, base - tall), (float(width), base - tall)]
    mask = brushes.outline(canvas.size, blocks)
    fill = Image.new("RGB", canvas.size, own)
    fade = brushes.gradient(
        (width, max(2, round(tall * 1.6))), (own, own, mix(own, canvas.palette.haze, 0.55 - 0.25 * near))
    )
    fill.paste(fade, (0, round(line[0][1] - tall * 0.4)))
    canvas.image.paste(fill, mask=mask)
    _windows(canvas, rng, houses, base, near)


def _windows(
    canvas: Canvas, rng: Random, houses: Sequence[tuple[float, float, float, int]], base: float, near: float
) -> None:
    """Lit windows: more of them the darker it is."""
    size = max(1.0, canvas.unit * (0.0032 + 0.0028 * near))
    share = 0.06 + 0.4 * canvas.palette.darkness
    mask = Image.new("L", canvas.size)
    pen = ImageDraw.Draw(mask)
    for x, wide, rise, _ in houses:
        alive = share * rng.uniform(0.3, 1.6)
        for row in range(int(rise / (size * 2.6))):
            for column in range(int(wide / (size * 2.2)) - 1):
                if rng.random() < alive:
                    left, top = x + size * (1.2 + column * 2.2), base - rise + size * (1.6 + row * 2.6)
                    pen.rectangle((left, top, left + size * 0.9, top + size * 1.2), fill=rng.randint(90, 255))
    tone = canvas.palette.accents[0] if canvas.reading.colours else (255, 214, 140)
    shine = mask.filter(ImageFilter.GaussianBlur(size * 2.2))
    brushes.light(canvas.image, tone, ImageChops.add(mask, brushes.scaled(shine, 0.9)), 0.9 * (1 - 0.45 * (1 - near)))
