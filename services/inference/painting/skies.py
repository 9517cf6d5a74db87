"""Skies: their colour, their lights and their clouds."""

from __future__ import annotations

import math

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from services.inference.painting import brushes
from services.inference.painting.canvas import Canvas
from services.inference.painting.palette import lit, mix


def sky(canvas: Canvas) -> None:
    width, height = canvas.size
    reach = max(8, round(canvas.horizon * 1.04))
    canvas.image.paste(canvas.palette.haze, (0, 0, width, height))
    canvas.image.paste(brushes.gradient((width, reach), canvas.palette.sky))


def halo(canvas: Canvas) -> None:
    """The wide light around the sun or moon, which colours everything."""
    unit, tone = canvas.unit, canvas.palette.light
    dim = 1 - 0.55 * canvas.palette.darkness
    wide = brushes.glow(canvas.size, canvas.sun, (unit * 1.5, unit * 1.15), 2.0)
    brushes.light(canvas.image, mix(tone, canvas.palette.sky[-2], 0.45), wide, 0.6 * dim)
    close = brushes.glow(canvas.size, canvas.sun, (unit * 0.5, unit * 0.5), 2.2)
    brushes.light(canvas.image, tone, close, 0.75 * dim)


def sun(canvas: Canvas) -> None:
    low = canvas.palette.darkness  # a low sun looks large
    (x, y), radius = canvas.sun, canvas.unit * (0.03 + 0.06 * low) * canvas.rng("sun").uniform(0.85, 1.2)
    disc = brushes.outline(canvas.size, lambda pen, k: pen.ellipse(_box(x, y, radius, k), fill=255))
    canvas.image.paste(lit(canvas.palette.light, 0.55), mask=disc)
    brushes.light(canvas.image, canvas.palette.light, brushes.glow(canvas.size, (x, y), (radius * 4,) * 2, 2.2), 0.8)


def moon(canvas: Canvas) -> None:
    rng = canvas.rng("moon")
    (x, y), radius = canvas.sun, canvas.unit * rng.uniform(0.05, 0.08)
    brushes.light(canvas.image, canvas.palette.light, brushes.glow(canvas.size, (x, y), (radius * 6,) * 2, 2.4), 0.55)
    lean = radius * rng.choice((0.0, 0.0, 0.55, -0.5, 0.8))
    side = max(4, round(radius * 2.2))
    face = Image.new("L", (side * 4, side * 4))
    pen = ImageDraw.Draw(face)
    centre, wide = side * 2, radius * 4
    pen.ellipse((centre - wide, centre - wide, centre + wide, centre + wide), fill=255)
    for _ in range(9):  # the seas on its face
        angle, away, spot = rng.random() * math.tau, rng.random() * 0.7 * wide, rng.uniform(0.1, 0.3) * wide
        sx, sy = centre + away * math.cos(angle), centre + away * math.sin(angle)
        pen.ellipse((sx - spot, sy - spot, sx + spot, sy + spot), fill=rng.randint(205, 235))
    face = face.filter(ImageFilter.GaussianBlur(wide * 0.05))
    whole = Image.new("L", face.size)
    pen = ImageDraw.Draw(whole)
    pen.ellipse((centre - wide, centre - wide, centre + wide, centre + wide), fill=255)
    if lean:
        pen.ellipse(
            (centre - wide + lean * 4, centre - wide - lean, centre + wide + lean * 4, centre + wide - lean), fill=0
        )
    face, whole = (one.resize((side, side), Image.Resampling.LANCZOS) for one in (face, whole))
    mask = ImageChops.multiply(whole, face)
    canvas.image.paste(lit(canvas.palette.light, 0.3), (round(x - side / 2), round(y - side / 2)), mask)


def stars(canvas: Canvas) -> None:
    rng = canvas.rng("stars")
    width, height = canvas.size
    reach = height if "space" in canvas.reading.grounds else canvas.horizon
    mask = Image.new("L", canvas.size)
    pen = ImageDraw.Draw(mask)
    fine = max(1.0, canvas.unit / 900)
    for _ in range(canvas.some(620, 120)):
        x, y = rng.random() * width, rng.random() ** 1.25 * reach
        bright = rng.random() ** 3
        size = fine * (0.45 + bright)
        pen.ellipse((x - size, y - size, x + size, y + size), fill=round(60 + 195 * bright))
    thinned = ImageChops.multiply(mask, brushes.fade(canvas.size, (1, 0.9, 0.6, 0.15 if reach < height else 0.6, 0.5)))
    soft = thinned.filter(ImageFilter.GaussianBlur(fine * 1.6))
    brushes.light(
        canvas.image, canvas.palette.light, ImageChops.add(thinned, soft), 0.4 + 0.6 * canvas.palette.darkness
    )
    for _ in range(canvas.some(7, 2)):
        twinkle(canvas, rng.random() * width, rng.random() * reach * 0.7, canvas.unit * rng.uniform(0.008, 0.02))


def twinkle(canvas: Canvas, x: float, y: float, size: float) -> None:
    """One bright star with a cross of rays; only its small square is touched."""
    reach = max(3, round(size * 2))
    box = (round(x) - reach, round(y) - reach, round(x) + reach, round(y) + reach)
    patch = canvas.image.crop(box)
    mask = brushes.glow(patch.size, (reach, reach), (reach * 0.6,) * 2, 3.0)
    for radius in ((reach, max(1.0, reach * 0.07)), (max(1.0, reach * 0.07), reach)):
        mask = ImageChops.lighter(mask, brushes.glow(patch.size, (reach, reach), radius, 1.6))
    brushes.light(patch, canvas.palette.light, mask)
    canvas.image.paste(patch, box[:2])


def milky(canvas: Canvas) -> None:
    """A band of lit dust across the sky."""
    rng = canvas.rng("milky")
    width, height = canvas.size
    space = "space" in canvas.reading.grounds
    angle = rng.uniform(-0.9, 0.9)
    centre = (width * rng.uniform(0.35, 0.65), (height if space else canvas.horizon) * rng.uniform(0.3, 0.55))
    long = math.hypot(width, height)
    band = brushes.glow((512, 512), (256, 256), (250, 92), 1.2).rotate(math.degrees(angle), Image.Resampling.BILINEAR)
    spread = Image.new("L", canvas.size)
    band = band.resize((round(long), round(long)), Image.Resampling.BILINEAR)
    spread.paste(band, (round(centre[0] - long / 2), round(centre[1] - long / 2)))
    hues = canvas.palette.accents
    tones = [hues[0], mix(canvas.palette.light, hues[-1], 0.5), hues[-1]]
    for at, tone in enumerate(tones):
        dust = brushes.levels(brushes.fog(canvas.size, rng, cells=3 + 2 * at, octaves=canvas.some(6, 3)), 0.38, 0.85)
        brushes.light(canvas.image, tone, ImageChops.multiply(dust, spread), 0.85 if space else 0.45)
    dark = brushes.levels(
        brushes.fog(canvas.size, rng, cells=5, octaves=canvas.some(6, 3), stretch=1.5),
        0.5,
        0.75,
        0.75 if space else 0.3,
    )
    canvas.image.paste(canvas.palette.sky[0], mask=ImageChops.multiply(dark, spread))


def clouds(canvas: Canvas, amount: float = 0.5) -> None:
    """Drawn-out banks, bright where they face the light, thinner towards the zenith."""
    rng = canvas.rng("clouds")
    width = canvas.size[0]
    reach = max(8, round(canvas.horizon * 1.02))
    palette = canvas.palette
    lift = 0.3 - 0.65 * max(0.0, palette.darkness - 0.45)
    # clouds take on the sky lower down, so that they stand out from what is behind them without turning to mud
    tones = [
        lit(mix(palette.sky[min(at + 2, len(palette.sky) - 1)], palette.sky[-2], 0.3), lift)
        for at in range(len(palette.sky))
    ]
    body = brushes.gradient((width, reach), tones)
    shade = mix(palette.sky[len(palette.sky) // 2], palette.sky[0], 0.25)
    noise = brushes.fog((width, reach), rng, cells=4, octaves=canvas.some(7, 3), stretch=2.4)
    mask = brushes.levels(noise, 0.62 - 0.24 * amount, 0.88 - 0.2 * amount, 0.9)
    mask = ImageChops.multiply(mask, brushes.fade((width, reach), (0.75, 1, 1, 0.85, 0.35)))
    drop = max(1, round(canvas.unit * 0.022))
    lean = drop if canvas.sun[0] > width / 2 else -drop
    lower = ImageChops.multiply(mask, brushes.shifted(mask, lean, -drop))
    piece = canvas.image.crop((0, 0, width, reach))
    piece.paste(body, mask=mask)
    piece.paste(shade, mask=brushes.scaled(brushes.levels(lower, 0.2, 1.0), 0.5))
    lining = brushes.levels(brushes.rim(mask, -lean, -drop), 0.02, 0.35)
    warmth = brushes.glow((width, reach), canvas.sun, (canvas.unit * 1.1,) * 2, 1.2)
    brushes.light(piece, palette.light, ImageChops.multiply(lining, warmth), 0.85)
    canvas.image.paste(piece)


def _box(x: float, y: float, radius: float, k: int) -> tuple[float, float, float, float]:
    return (x - radius) * k, (y - radius) * k, (x + radius) * k, (y + radius) * k
