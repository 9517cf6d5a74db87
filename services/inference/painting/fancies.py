"""Fancies: pictures without a horizon, of flowing ribbons, of space, of the deep sea."""

from __future__ import annotations

import math

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from services.inference.painting import brushes
from services.inference.painting.brushes import Point
from services.inference.painting.canvas import Canvas
from services.inference.painting.palette import Colour, along, colour, lit, mix


def backdrop(canvas: Canvas) -> None:
    """Two tones at an angle, with broad soft lights in the accents."""
    rng = canvas.rng("backdrop")
    width, height = canvas.size
    sky, accents = canvas.palette.sky, canvas.palette.accents
    square = brushes.gradient((256, 256), (sky[0], sky[len(sky) // 2], sky[-2]))
    turned = square.rotate(rng.uniform(-50, 50), Image.Resampling.BILINEAR)
    # The corners of a turned square stay empty, so only its middle is taken, enlarged.
    canvas.image.paste(turned.crop((56, 56, 200, 200)).resize((width, height), Image.Resampling.BICUBIC))
    for at in range(4):
        spot = (rng.uniform(0, 1) * width, rng.uniform(0, 1) * height)
        mask = brushes.glow(canvas.size, spot, (canvas.unit * rng.uniform(0.4, 0.8),) * 2, 1.7)
        canvas.image.paste(accents[at % len(accents)], mask=brushes.scaled(mask, 0.55))


def ribbon(canvas: Canvas, layer: int, of: int) -> None:
    """A fold of silk across the picture, lit along its upper edge, with a soft shadow under it."""
    rng = canvas.rng(f"ribbon {layer}")
    width, height = canvas.size
    near = layer / max(1, of - 1)
    curve, swing = brushes.rolling(rng, 3), canvas.unit * rng.uniform(0.1, 0.2)
    lean = canvas.rng("lean").uniform(-0.35, 0.35)
    base = height * (0.12 + 0.86 * near)
    line = [(at / 120 * width, base + (at / 120 - 0.5) * lean * width + curve(at / 120) * swing) for at in range(121)]
    mask = brushes.area(canvas.size, [*line, (width + 2, height * 2), (-2, height * 2)])
    stops = (*canvas.palette.accents, canvas.palette.sky[1], *canvas.palette.accents[:1], canvas.palette.sky[-2])
    tone = along(stops, (near * 1.15 + rng.uniform(-0.06, 0.06)) % 1.0)
    shadow = brushes.shifted(mask, 0, -round(canvas.unit * 0.012)).filter(ImageFilter.GaussianBlur(canvas.unit * 0.02))
    shadow.paste(0, (0, height - round(canvas.unit * 0.012), width, height))
    canvas.image.paste(mix(canvas.palette.near, tone, 0.2), mask=brushes.scaled(shadow, 0.38))
    fill = brushes.gradient(canvas.size, (lit(tone, 0.22), tone, lit(tone, -0.28)), sideways=rng.random() < 0.6)
    sheen = brushes.rim(mask.filter(ImageFilter.GaussianBlur(canvas.unit * 0.03)), 0, -round(canvas.unit * 0.03))
    brushes.light(fill, lit(tone, 0.5), sheen, 0.75)
    canvas.image.paste(fill, mask=mask)


def orbs(canvas: Canvas) -> None:
    """A few glass balls of light."""
    rng = canvas.rng("orbs")
    width, height = canvas.size
    for _ in range(canvas.some(7, 3)):
        x, y, radius = rng.random() * width, rng.random() * height, canvas.unit * rng.uniform(0.015, 0.09) ** 1.0
        tone = along((*canvas.palette.accents, canvas.palette.light), rng.random())
        sphere(canvas, (x, y), radius, tone, strength=0.8)


def sphere(canvas: Canvas, centre: Point, radius: float, tone: Colour, *, strength: float = 1.0) -> None:
    """A lit ball: bright towards the sun, dark away from it."""
    x, y = centre
    disc = brushes.outline(
        canvas.size,
        lambda pen, k: pen.ellipse(((x - radius) * k, (y - radius) * k, (x + radius) * k, (y + radius) * k), fill=255),
    )
    angle = math.atan2(canvas.sun[1] - y, canvas.sun[0] - x)
    lit_at = (x + math.cos(angle) * radius * 0.55, y + math.sin(angle) * radius * 0.55)
    fill = Image.new("RGB", canvas.size, lit(tone, -0.55))
    fill.paste(tone, mask=brushes.glow(canvas.size, lit_at, (radius * 1.7,) * 2, 0.9))
    fill.paste(lit(tone, 0.55), mask=brushes.scaled(brushes.glow(canvas.size, lit_at, (radius * 0.9,) * 2, 1.6), 0.8))
    canvas.image.paste(fill, mask=brushes.scaled(disc, strength))


def planet(canvas: Canvas, at: int) -> None:
    """A banded ball, half in shadow, perhaps with a ring."""
    rng = canvas.rng(f"planet {at}")
    width, height = canvas.size
    radius = canvas.unit * (rng.uniform(0.14, 0.26) if at == 0 else rng.uniform(0.02, 0.05))
    x = width * rng.uniform(0.25, 0.75)
    y = (height if "space" in canvas.reading.grounds else canvas.horizon) * rng.uniform(0.3, 0.65)
    side = max(8, round(radius * 2))
    accents = canvas.palette.accents
    base = accents[at % len(accents)]
    bands = [mix(lit(base, rng.uniform(-0.4, 0.45)), accents[-1], rng.uniform(0, 0.4)) for _ in range(11)]
    ball = brushes.gradient((side, side), bands)
    swirl = brushes.fog((side, side), rng, cells=4, octaves=canvas.some(5, 2), stretch=3.0)
    ball = ImageChops.soft_light(ball, Image.merge("RGB", (brushes.levels(swirl, 0.2, 0.8),) * 3))
    ball = ball.rotate(rng.uniform(-25, 25), Image.Resampling.BICUBIC, fillcolor=bands[5])
    towards = math.atan2(canvas.sun[1] - y, canvas.sun[0] - x)
    noon = (side / 2 + math.cos(towards) * radius * 0.8, side / 2 + math.sin(towards) * radius * 0.8)
    day = brushes.glow((side, side), noon, (radius * 1.75,) * 2, 0.8)
    night = Image.new("RGB", (side, side), lit(base, -0.93))
    ball = Image.composite(ball, night, brushes.levels(day, 0.05, 0.6))
    disc = brushes.outline((side, side), lambda pen, k: pen.ellipse((k, k, (side - 1) * k, (side - 1) * k), fill=255))
    air = brushes.glow(
        canvas.size,
        (x + math.cos(towards) * radius * 0.12, y + math.sin(towards) * radius * 0.12),
        (radius * 1.3,) * 2,
        1.0,
    )
    brushes.light(canvas.image, lit(base, 0.3), air, 0.4)
    ringed = at == 0 and rng.random() < 0.6
    tilt = rng.uniform(-28, 28)
    if ringed:
        _ring(canvas, (x, y), radius, tilt=tilt, tone=base, front=False)
    canvas.image.paste(ball, (round(x - side / 2), round(y - side / 2)), disc)
    if ringed:
        _ring(canvas, (x, y), radius, tilt=tilt, tone=base, front=True)


def _ring(canvas: Canvas, centre: Point, radius: float, *, tilt: float, tone: Colour, front: bool) -> None:
    x, y = centre
    side = round(radius * 5) * 2
    ring = Image.new("L", (side, side))
    pen = ImageDraw.Draw(ring)
    rng = canvas.rng("ring")
    for at in range(36):
        out = side * (0.47 - 0.0046 * at)
        box = (side / 2 - out, side / 2 - out * 0.22, side / 2 + out, side / 2 + out * 0.22)
        shade = rng.randint(60, 210)
        pen.arc(box, 0 if front else 180, 180 if front else 360, fill=shade, width=max(1, round(side * 0.0035)))
    ring = ring.resize((side // 2, side // 2), Image.Resampling.LANCZOS).rotate(tilt, Image.Resampling.BICUBIC)
    whole = Image.new("L", canvas.size)
    whole.paste(ring, (round(x - side / 4), round(y - side / 4)))
    canvas.image.paste(lit(tone, 0.55), mask=brushes.scaled(whole, 0.85))


def depths(canvas: Canvas) -> None:
    """Under water: light from above, lost below."""
    width, height = canvas.size
    blue = canvas.palette.tint or colour("#1f8fb5")
    canvas.image.paste(
        brushes.gradient((width, height), (lit(blue, 0.62), lit(blue, 0.15), lit(blue, -0.35), lit(blue, -0.72)))
    )


def shafts(canvas: Canvas, *, from_above: bool = True) -> None:
    """Rays of light that fall through water or leaves."""
    rng = canvas.rng("shafts")
    width, height = canvas.size
    x0, y0 = canvas.sun[0], (-height * 0.4 if from_above else canvas.sun[1])
    mask = Image.new("L", (max(1, width // 2), max(1, height // 2)))
    for _ in range(canvas.some(12, 6)):
        aim, spread = rng.uniform(-0.75, 0.75), rng.uniform(0.008, 0.05)
        long = math.hypot(width, height) * 1.6
        points = [(x0, y0)]
        points += [
            (x0 + math.sin(aim + side * spread) * long, y0 + math.cos(aim + side * spread) * long) for side in (-1, 1)
        ]
        ray = Image.new("L", mask.size)
        ImageDraw.Draw(ray).polygon([(a / 2, b / 2) for a, b in points], fill=rng.randint(30, 90))
        mask = ImageChops.add(mask, ray)
    mask = mask.filter(ImageFilter.GaussianBlur(canvas.unit * 0.008)).resize(canvas.size, Image.Resampling.BILINEAR)
    mask = ImageChops.multiply(mask, brushes.fade(canvas.size, (1, 0.75, 0.35, 0.05, 0)))
    brushes.light(canvas.image, lit(canvas.palette.light, 0.2), mask, 0.6)


def reef(canvas: Canvas, layer: int) -> None:
    """Weed and corals on the sea floor."""
    rng = canvas.rng(f"reef {layer}")
    width, height = canvas.size
    blue = canvas.palette.tint or colour("#1f8fb5")
    base = height * (0.86 + 0.08 * layer)
    curve = brushes.rolling(rng, 4)

    def draw(pen: brushes.Draw, k: int) -> None:
        floor = [(at / 60 * width * k, (base + curve(at / 60) * canvas.unit * 0.05) * k) for at in range(61)]
        pen.polygon([(0, height * k), *floor, (width * k, height * k)], fill=255)
        for _ in range(canvas.some(46, 14)):
            x, tall, wag = rng.random() * width, canvas.unit * rng.uniform(0.05, 0.24), rng.uniform(0.4, 1.4)
            phase = rng.random() * math.tau
            stem = [
                (x + math.sin(t / 12 * 4 * wag + phase) * tall * 0.08 * t / 12, base + tall * 0.2 - tall * 1.2 * t / 12)
                for t in range(13)
            ]
            thick = tall * 0.035
            left = [(a - thick * (1 - t / 13), b) for t, (a, b) in enumerate(stem)]
            right = [(a + thick * (1 - t / 13), b) for t, (a, b) in enumerate(stem)]
            pen.polygon([(a * k, b * k) for a, b in [*left, *reversed(right)]], fill=255)

    canvas.image.paste(lit(blue, -0.62 - 0.18 * layer), mask=brushes.outline(canvas.size, draw))


def bubbles(canvas: Canvas) -> None:
    rng = canvas.rng("bubbles")
    width, height = canvas.size

    def draw(pen: brushes.Draw, k: int) -> None:
        for _ in range(canvas.some(60, 16)):
            x, y, r = rng.random() * width, rng.random() * height, canvas.unit * rng.uniform(0.002, 0.009)
            pen.ellipse(
                ((x - r) * k, (y - r) * k, (x + r) * k, (y + r) * k),
                outline=255,
                width=max(1, round(r * 0.3 * k)),
                fill=60,
            )

    canvas.image.paste((235, 250, 255), mask=brushes.scaled(brushes.outline(canvas.size, draw), 0.6))
