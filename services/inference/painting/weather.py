"""Weather: what moves in the air, from the aurora down to falling leaves."""

from __future__ import annotations

import math

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from services.inference.painting import brushes
from services.inference.painting.brushes import Point
from services.inference.painting.canvas import Canvas
from services.inference.painting.palette import lit, mix


def aurora(canvas: Canvas) -> None:
    """Curtains of light: each column a bright foot that fades upward."""
    rng = canvas.rng("aurora")
    width, reach = canvas.size[0], max(16, round(canvas.horizon))
    columns, rows = canvas.some(256, 96), 128
    tones = [(70, 235, 160), (60, 200, 210), (160, 100, 235)]
    if canvas.reading.colours:
        tones = list(canvas.palette.accents)
    for at in range(3):
        line, rays = brushes.rolling(rng, 4), brushes.crooked(rng, columns, 0.85)
        curtain = Image.new("L", (columns, rows))
        column = brushes.fade((1, rows), (0, 0.05, 0.2, 0.5, 0.9, 1, 0))
        for x in range(columns):
            tall = round(rows * (0.5 + 0.2 * rays[x]))
            foot = rows * (0.62 - 0.12 * at + 0.2 * line(x / columns))
            ray = column.resize((1, max(4, tall)))
            curtain.paste(brushes.scaled(ray, min(1.0, 0.55 + 0.35 * abs(rays[x]))), (x, round(foot - tall)))
        mask = curtain.filter(ImageFilter.GaussianBlur(1.4)).resize((width, reach), Image.Resampling.BICUBIC)
        whole = Image.new("L", canvas.size)
        whole.paste(mask)
        brushes.light(canvas.image, tones[at % len(tones)], whole, 0.55)


def rainbow(canvas: Canvas) -> None:
    width, height = canvas.size
    radius, thick = canvas.unit * 0.75, canvas.unit * 0.011
    x = width - canvas.sun[0] * 0.6 - width * 0.2
    hues = (
        (150, 90, 220),
        (80, 110, 235),
        (60, 170, 220),
        (80, 205, 110),
        (240, 220, 90),
        (245, 160, 70),
        (235, 80, 80),
    )
    for at, tone in enumerate(hues):
        reach, y = radius + at * thick, canvas.horizon + radius * 0.2
        box = (x - reach, y - reach, x + reach, y + reach)

        def arc(pen: brushes.Draw, k: int, box: tuple[float, ...] = box) -> None:
            pen.arc([side * k for side in box], 180, 360, fill=255, width=max(1, round(thick * 1.5 * k)))

        mask = brushes.outline(canvas.size, arc).filter(ImageFilter.BoxBlur(thick * 0.5))
        mask = ImageChops.multiply(mask, brushes.fade((width, height), (1, 1, 0.8, 0, 0)))
        brushes.light(canvas.image, tone, mask, 0.34)


def lightning(canvas: Canvas) -> None:
    rng = canvas.rng("lightning")
    width = canvas.size[0]
    x, y = width * rng.uniform(0.2, 0.8), 0.0
    path = [(x, y)]
    branches = []
    while y < canvas.horizon:
        x, y = x + rng.gauss(0, canvas.unit * 0.03), y + canvas.unit * rng.uniform(0.015, 0.04)
        path.append((x, y))
        if rng.random() < 0.16:
            twig = [(x, y)]
            side = rng.choice((-1, 1))
            for _ in range(rng.randint(3, 7)):
                last = twig[-1]
                twig.append(
                    (last[0] + side * rng.random() * canvas.unit * 0.03, last[1] + rng.random() * canvas.unit * 0.03)
                )
            branches.append(twig)

    def bolt(pen: brushes.Draw, k: int) -> None:
        for line, thick in [(path, 0.0045), *((branch, 0.002) for branch in branches)]:
            pen.line(
                [(a * k, b * k) for a, b in line], fill=255, width=max(1, round(canvas.unit * thick * k)), joint="curve"
            )

    mask = brushes.outline(canvas.size, bolt)
    brushes.light(canvas.image, (190, 200, 255), mask.filter(ImageFilter.GaussianBlur(canvas.unit * 0.03)), 1.0)
    brushes.light(canvas.image, (190, 200, 255), mask.filter(ImageFilter.GaussianBlur(canvas.unit * 0.008)), 0.9)
    canvas.image.paste((250, 250, 255), mask=mask)


def birds(canvas: Canvas) -> None:
    rng = canvas.rng("birds")
    width, _ = canvas.size
    cx, cy = width * rng.uniform(0.25, 0.75), canvas.horizon * rng.uniform(0.25, 0.6)

    def flock(pen: brushes.Draw, k: int) -> None:
        for _ in range(canvas.some(13, 5)):
            x, y = cx + rng.gauss(0, canvas.unit * 0.16), cy + rng.gauss(0, canvas.unit * 0.07)
            span, beat = canvas.unit * rng.uniform(0.012, 0.028), rng.uniform(0.1, 0.75)
            tip, bend, under = -beat * 0.6, -beat, -beat * 0.72
            wing = [(-1, tip), (-0.55, bend), (0, 0), (0.55, bend), (1, tip), (0.5, under), (0, 0.22), (-0.5, under)]
            pen.polygon([((x + a * span) * k, (y + b * span) * k) for a, b in wing], fill=255)

    mask = brushes.outline(canvas.size, flock)
    canvas.image.paste(mix(canvas.palette.near, canvas.palette.sky[0], 0.25), mask=brushes.scaled(mask, 0.9))


def rain(canvas: Canvas) -> None:
    rng = canvas.rng("rain")
    width, height = canvas.size
    slant = rng.uniform(-0.3, 0.3)
    mask = Image.new("L", canvas.size)
    pen = ImageDraw.Draw(mask)
    for _ in range(canvas.some(520, 120)):
        x, y, depth = rng.uniform(-0.2, 1.2) * width, rng.uniform(-0.1, 1) * height, rng.random() ** 2
        long = canvas.unit * (0.02 + 0.09 * depth)
        pen.line(
            (x, y, x + slant * long, y + long), fill=round(40 + 90 * depth), width=1 + round(canvas.unit / 900 * depth)
        )
    mask = mask.filter(ImageFilter.GaussianBlur(canvas.unit / 1400))
    canvas.image.paste(lit(canvas.palette.haze, 0.45), mask=brushes.scaled(mask, 0.8))


def flakes(canvas: Canvas, what: str) -> None:
    """Snow, petals, leaves or fireflies, near ones larger and out of focus."""
    rng = canvas.rng(what)
    width, height = canvas.size
    accents = canvas.palette.accents
    tones = {
        "snow": [(252, 253, 255)],
        "petals": [(255, 214, 226), (250, 170, 196), lit(accents[0], 0.3)],
        "leaves": [(214, 96, 32), (233, 158, 44), (172, 52, 34), accents[0]],
        "fireflies": [(255, 226, 130), (255, 200, 92), lit(accents[0], 0.4)],
    }[what]
    counts = {"snow": 300, "petals": 90, "leaves": 80, "fireflies": 70}
    for near in (0, 1, 2):  # far, middle, close
        size = canvas.unit * (0.0022, 0.0045, 0.011)[near]
        for tone in tones:
            mask = Image.new("L", canvas.size)
            pen = ImageDraw.Draw(mask)
            for _ in range(max(1, round(canvas.some(counts[what], 30) * (0.6, 0.3, 0.07)[near] / len(tones)))):
                place = (rng.random() * width, rng.random() ** 0.9 * height)
                _flake(pen, what, place, size=size * rng.uniform(0.6, 1.4), turn=rng.random())
            mask = mask.filter(ImageFilter.GaussianBlur(size * (0.25, 0.3, 0.5)[near]))
            if what == "fireflies":
                halo = mask.filter(ImageFilter.GaussianBlur(size * 3))
                brushes.light(canvas.image, tone, ImageChops.add(halo, halo), 1.0)
                brushes.light(canvas.image, tone, mask)
            else:
                canvas.image.paste(tone, mask=brushes.scaled(mask, (0.75, 0.85, 0.6)[near]))


def _flake(pen: brushes.Draw, what: str, at: Point, *, size: float, turn: float) -> None:
    x, y = at
    if what in ("snow", "fireflies"):
        pen.ellipse((x - size, y - size, x + size, y + size), fill=255)
        return
    angle, narrow = turn * math.tau, 0.35 + 0.5 * abs(math.sin(turn * 40))
    leaf = [
        (math.cos(t * math.tau / 10) * size * 2, math.sin(t * math.tau / 10) * size * 2 * narrow) for t in range(10)
    ]
    cos, sin = math.cos(angle), math.sin(angle)
    pen.polygon([(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in leaf], fill=255)
