"""Water: what it mirrors, its ripples, its light, its waves and its shore."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageFilter

from services.inference.painting import brushes
from services.inference.painting.brushes import Draw
from services.inference.painting.canvas import Canvas
from services.inference.painting.land import Growth, is_wintry, ridge, soft
from services.inference.painting.palette import colour, lit, mix


def water(canvas: Canvas) -> None:
    """What is above the horizon, mirrored: darker, drawn out downward, broken by ripples."""
    rng = canvas.rng("water")
    width, height = canvas.size
    shore = round(canvas.horizon)
    depth = height - shore
    calm = "lake" in canvas.reading.grounds
    above = canvas.image.crop((0, max(0, shore - round(depth * (1.0 if calm else 1.5))), width, shore))
    mirror = above.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((width, depth), Image.Resampling.BILINEAR)
    mirror = mirror.filter(ImageFilter.BoxBlur((canvas.unit * 0.002, canvas.unit * (0.006 if calm else 0.03))))
    deep = canvas.palette.local(colour("#1f5a78"), said=_sea(canvas))
    body = brushes.gradient(
        (width, depth), (mix(canvas.palette.haze, deep, 0.35), deep, mix(deep, canvas.palette.near, 0.45))
    )
    own = (0.5, 0.68, 0.82) if _sea(canvas) else (0.18, 0.34, 0.6) if calm else (0.3, 0.62, 0.88)
    veil = brushes.fade((width, depth), own)
    mirror.paste(body, mask=veil)
    # Rows slide sideways, farther ones less: the mirror breaks up towards the viewer.
    broken = mirror.copy()
    y = 0
    sway = brushes.rolling(rng, 6)
    while y < depth:
        near = y / depth
        tall = max(1, round(1 + canvas.unit * 0.006 * near))
        shift = round(sway(y / depth * (9 - 5 * near)) * canvas.unit * (0.004 + 0.022 * near) * (0.5 if calm else 1.0))
        broken.paste(mirror.crop((0, y, width, min(depth, y + tall))), (shift, y))
        y += tall
    canvas.image.paste(broken, (0, shore))
    line = Image.new("L", canvas.size)
    line.paste(
        brushes.fade((width, max(3, round(canvas.unit * 0.02))), (0, 1, 0)), (0, shore - round(canvas.unit * 0.01))
    )
    canvas.image.paste(canvas.palette.haze, mask=brushes.scaled(line, 0.4))


def ripples(canvas: Canvas, batch: int) -> None:
    """Dark and light dashes, longer and sparser towards the viewer."""
    rng = canvas.rng(f"ripples {batch}")
    width, height = canvas.size
    depth = height - canvas.horizon
    deep = canvas.palette.local(colour("#143f58"), said=_sea(canvas))
    calm = 0.55 if "lake" in canvas.reading.grounds else 1.0
    for tone, strength in (
        (mix(deep, canvas.palette.near, 0.4), 0.3),
        (mix(canvas.palette.sky[-2], canvas.palette.light, 0.3), 0.28),
    ):
        lines: list[tuple[float, float, float, float]] = []
        for _ in range(canvas.some(150, 40)):
            near = rng.random() ** 1.6
            half = canvas.unit * (0.012 + 0.09 * near) * rng.uniform(0.4, 1.4)
            x, y = rng.uniform(-0.05, 1.05) * width, canvas.horizon + depth * near
            lines.append((x, y, half, canvas.unit * (0.0006 + 0.0042 * near)))
        canvas.image.paste(tone, mask=brushes.scaled(brushes.outline(canvas.size, _dashes(lines)), strength * calm))


def glitter(canvas: Canvas) -> None:
    """The path of light below the sun or moon."""
    rng = canvas.rng("glitter")
    width, height = canvas.size
    depth = height - canvas.horizon
    x = canvas.sun[0]
    path = brushes.glow(canvas.size, (x, canvas.horizon), (canvas.unit * 0.16, depth * 1.1), 1.5)
    path.paste(0, (0, 0, width, round(canvas.horizon)))
    brushes.light(canvas.image, canvas.palette.light, path, 0.42)
    lines = []
    for _ in range(canvas.some(620, 100)):
        near = rng.random() ** 1.5
        away = rng.gauss(0, 1) * canvas.unit * (0.018 + 0.075 * near)
        half = canvas.unit * (0.005 + 0.03 * near) * rng.random()
        lines.append((x + away, canvas.horizon + depth * near, half, canvas.unit * (0.0005 + 0.0017 * near)))
    brushes.light(canvas.image, lit(canvas.palette.light, 0.3), brushes.outline(canvas.size, _dashes(lines)), 0.8)


def waves(canvas: Canvas, layer: int, of: int) -> None:
    """Swell in the foreground: peaked crests over wide troughs, flecked with foam where they break."""
    rng = canvas.rng(f"waves {layer}")
    width, height = canvas.size
    near = (layer + 1) / of
    depth = height - canvas.horizon
    rough = 1.7 if {"storm", "rain"} & {*canvas.reading.times, *canvas.reading.weather} else 0.8
    y, tall = canvas.horizon + depth * (0.3 + 0.6 * near), canvas.unit * (0.014 + 0.03 * near) * rough
    swell, chop = brushes.rolling(rng, 3), brushes.rolling(rng, 6)
    turns = 1.5 * width / canvas.unit / (0.5 + near)
    line = [
        (at / 200 * width, y - tall * (1 - 1.7 * abs(swell(at / 200 * turns)) + 0.12 * chop(at / 200 * turns * 3)))
        for at in range(201)
    ]
    deep = mix(canvas.palette.local(colour("#1d6480"), said=_sea(canvas)), canvas.palette.near, 0.15 + 0.25 * near)
    crest = mix(deep, canvas.palette.sky[-2], 0.3)
    mask = ridge(canvas, f"waves {layer}", line, (crest, deep), reach=tall * 3, shine=0.25, relief=0.25)
    flecks = brushes.fog(canvas.size, rng, cells=26, octaves=4, stretch=2.2)
    for thick, low, strength in ((0.004, 0.5, 0.65), (0.02, 0.52, 0.4)):
        drop = max(1, round(canvas.unit * thick * (0.4 + near) * rough))
        band = ImageChops.multiply(brushes.rim(mask, 0, -drop).filter(ImageFilter.GaussianBlur(drop * 0.5)), mask)
        foam = ImageChops.multiply(band, brushes.levels(flecks, low, low + 0.14))
        canvas.image.paste(lit(canvas.palette.haze, 0.6), mask=brushes.scaled(foam, strength * min(1.0, rough)))


def shore(canvas: Canvas) -> None:
    """A strip of land in front of the water, for those who stand by it."""
    height = canvas.size[1]
    rng = canvas.rng("shore")
    line = soft(canvas, rng, height - canvas.unit * 0.075, canvas.unit * 0.022, 3)
    own = mix(canvas.palette.local(colour("#dfe8f1" if is_wintry(canvas) else "#6d6248")), canvas.palette.near, 0.35)
    size = canvas.unit * 0.02

    def tufts(pen: Draw, k: int) -> None:
        for _ in range(canvas.some(160, 30)):
            x, y = line[rng.randrange(97)]
            x, bend, rise = x + rng.uniform(-1, 1) * size, rng.uniform(-0.5, 0.5) * size, size * rng.uniform(0.4, 1.3)
            pen.polygon(
                [(a * k, b * k) for a, b in ((x - size * 0.06, y + 2), (x + bend, y - rise), (x + size * 0.06, y + 2))],
                fill=255,
            )

    ridge(
        canvas,
        "shore",
        line,
        (own, mix(own, canvas.palette.near, 0.6)),
        reach=canvas.unit * 0.1,
        growth=tufts,
        relief=0.3,
    )


def _sea(canvas: Canvas) -> str | None:
    return canvas.reading.colour_of("sea") or canvas.reading.colour_of("lake")


def _dashes(lines: Sequence[tuple[float, float, float, float]]) -> Growth:
    def draw(pen: Draw, k: int) -> None:
        for x, y, half, thin in lines:
            pen.ellipse(((x - half) * k, (y - thin) * k, (x + half) * k, (y + thin) * k), fill=255)

    return draw
