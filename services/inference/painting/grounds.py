"""Grounds: mountains, hills, forests and deserts, drawn from far to near, each layer hazier the farther it is."""

from __future__ import annotations

import math
from random import Random

from PIL import Image, ImageChops, ImageFilter

from services.inference.painting import brushes
from services.inference.painting.brushes import Draw
from services.inference.painting.canvas import Canvas
from services.inference.painting.land import Line, carve, is_wintry, jagged, mist, ridge, soft
from services.inference.painting.palette import colour, lit, mix
from services.inference.painting.trees import conifer, crowns

TURNING = ("#c8571f", "#dd8a24", "#a83a22", "#e3b23c")  # leaves in autumn


def mountains(canvas: Canvas, layer: int, of: int) -> None:
    rng = canvas.rng(f"mountain {layer}")
    near = layer / max(1, of - 1)
    room = canvas.size[1] - canvas.horizon
    tall = canvas.unit * (0.34 - 0.2 * near) * min(1.4, canvas.horizon / canvas.unit / 0.5)
    base = canvas.horizon - tall * 0.42 + room * 0.75 * near**1.3
    line = jagged(canvas, rng, base, tall, 0.5)
    own = canvas.palette.local(colour("#56647a"), 0.55 * (1 - near) + 0.04, said=canvas.reading.colour_of("mountain"))
    foot = mix(own, canvas.palette.haze, 0.55 - 0.3 * near)

    def wood(pen: Draw, k: int) -> None:
        size = canvas.unit * (0.028 + 0.05 * near**3)
        x = 0.0
        while x < canvas.size[0]:
            y = line[round(x / canvas.size[0] * (len(line) - 1))][1]
            conifer(pen, k, rng, (x, y + size * 0.25), tall=size * rng.uniform(0.5, 1.15), tiers=canvas.some(8, 4))
            x += size * rng.uniform(0.1, 0.75)

    wooded = near > 0.6 and not {"forest", "tree"} & canvas.reading.avoided
    mask = ridge(
        canvas, f"mountain {layer}", line, (own, foot), reach=tall * 2.4, relief=0.32, growth=wood if wooded else None
    )
    if layer < 2 and "snow" not in canvas.reading.avoided:
        _snow_caps(canvas, rng, line, mask, base=base, tall=tall)


def _snow_caps(canvas: Canvas, rng: Random, line: Line, mask: Image.Image, *, base: float, tall: float) -> None:
    winter = is_wintry(canvas)
    down = tall * (0.9 if winter else 0.34)
    jags = brushes.crooked(rng, len(line), 0.78)
    lower = [
        (x, min(y + down, base - tall * (-0.4 if winter else 0.16)) + jags[at] * tall * 0.14)
        for at, (x, y) in enumerate(line)
    ]
    cap = ImageChops.multiply(brushes.area(canvas.size, [*line, *reversed(lower)]), mask)
    white = mix(lit(canvas.palette.haze, 0.75), canvas.palette.light, 0.25)
    white = mix(white, canvas.palette.sky[0], 0.42 * canvas.palette.darkness)
    shade = mix(white, canvas.palette.sky[len(canvas.palette.sky) // 2], 0.5)
    fill = Image.new("RGB", canvas.size, mix(white, shade, 0.35))
    carve(canvas, "snow", fill, 0.5, 0.7)
    canvas.image.paste(fill, mask=brushes.scaled(cap, 0.85))


def hills(canvas: Canvas, layer: int, of: int) -> None:
    rng = canvas.rng(f"hills {layer}")
    near = layer / max(1, of - 1)
    room = canvas.size[1] - canvas.horizon
    tall = canvas.unit * (0.035 + 0.045 * near)
    line = soft(canvas, rng, canvas.horizon - tall * 0.2 + room * 0.72 * near**1.2, tall)
    own = canvas.palette.local(
        colour("#dfe8f1" if is_wintry(canvas) else "#6f9a45"), 0.68 * (1 - near), said=canvas.reading.colour_of("hills")
    )
    foot = mix(own, canvas.palette.haze, 0.42 * (1 - near) + 0.08)
    size = canvas.unit * (0.016 + 0.05 * near)
    some = [line[rng.randrange(len(line))] for _ in range(canvas.some(26 - 16 * near, 4))]

    wooded = "tree" not in canvas.reading.avoided and "forest" not in canvas.reading.avoided
    ridge(canvas, f"hills {layer}", line, (own, foot), reach=room * 0.4, relief=0.14)
    if wooded:
        stand = [(x + rng.uniform(-1, 1) * size, y + size * 0.14, size * rng.uniform(0.5, 1.2)) for x, y in some]
        leaf = "#c9762c" if "autumn" in canvas.reading.times else "#9fb3b8" if is_wintry(canvas) else "#41702f"
        green = canvas.palette.local(colour(leaf), 0.62 * (1 - near), said=canvas.reading.colour_of("forest"))
        crowns(
            canvas, rng, [one for one in stand if canvas.is_clear(one[0])], mix(own, canvas.palette.near, 0.45), [green]
        )


def forest(canvas: Canvas, layer: int, of: int) -> None:
    rng = canvas.rng(f"forest {layer}")
    near = layer / max(1, of - 1)
    width, height = canvas.size
    room = height - canvas.horizon
    line = soft(canvas, rng, canvas.horizon + room * (0.02 + 0.95 * near**1.5), canvas.unit * (0.06 - 0.015 * near))
    autumn = "autumn" in canvas.reading.times
    kind = colour("#b5652b" if autumn else "#5f7f86" if is_wintry(canvas) else "#33684a")
    own = canvas.palette.local(kind, 0.76 * (1 - near) ** 0.8, said=canvas.reading.colour_of("forest"))
    foot = mix(own, canvas.palette.haze, 0.62 * (1 - near) + 0.05)
    size = canvas.unit * (0.07 + 0.4 * near**2)
    step = size * (0.17 + 0.14 * near)

    leafy: list[tuple[float, float, float]] = []

    def trees(pen: Draw, k: int) -> None:
        x = -size * rng.random()
        while x < width + size:
            y = line[min(96, max(0, round(x / width * 96)))][1]
            clear = near < 0.5 or canvas.is_clear(x)
            tall = size * rng.uniform(0.55, 1.15) * (1 - 0.45 * near * math.exp(-(((x / width - 0.5) * 3.2) ** 2)))
            if autumn and rng.random() < 0.6:
                leafy.extend([(x, y, tall * 0.75)] if clear else [])
            elif clear:
                conifer(pen, k, rng, (x, y + size * 0.06), tall=tall, tiers=canvas.some(11, 4))
            x += step * rng.uniform(0.5, 1.7)

    ridge(canvas, f"forest {layer}", line, (own, foot), reach=size * 1.2, growth=trees, shine=0.4)
    if leafy:
        turning = [canvas.palette.local(colour(code), 0.7 * (1 - near)) for code in TURNING]
        crowns(canvas, rng, leafy, mix(own, canvas.palette.near, 0.4), turning)
    if layer < of - 1:
        mist(canvas, f"forest {layer}", line[48][1], size, 0.55 * (1 - near))


def desert(canvas: Canvas, layer: int, of: int) -> None:
    rng = canvas.rng(f"desert {layer}")
    near = layer / max(1, of - 1)
    width, height = canvas.size
    room = height - canvas.horizon
    tall = canvas.unit * (0.03 + 0.07 * near)
    line = soft(canvas, rng, canvas.horizon + room * 0.8 * near**1.25, tall, 3)
    own = canvas.palette.local(colour("#e0a45e"), 0.55 * (1 - near), said=canvas.reading.colour_of("desert"))
    lee = mix(own, canvas.palette.near, 0.42)
    mask = ridge(
        canvas,
        f"desert {layer}",
        line,
        (lit(own, 0.12), mix(own, canvas.palette.haze, 0.1)),
        reach=room * 0.5,
        relief=0.1,
    )
    # The lee side: from each crest a curved edge runs down and away from the light.
    lean = 1 if canvas.sun[0] < width / 2 else -1
    shadow = Image.new("L", canvas.size)
    for at in range(4, 93):
        if (
            line[at][1] < line[at - 3][1]
            and line[at][1] <= line[at + 3][1]
            and line[at][1] <= line[at - 1][1]
            and line[at][1] < line[at + 1][1]
        ):
            x, y = line[at]
            down = tall * rng.uniform(2.2, 3.5)
            edge = [
                (x + lean * down * (0.12 * math.sin(t / 10 * 3.1) - 0.35 * (t / 10) ** 2), y + down * t / 10)
                for t in range(11)
            ]
            far = [(x + lean * (down * 1.3 * (1 - t / 10)), y + down * (1 - (1 - t / 10) * 0.62)) for t in range(11)]
            slope = [
                line[place] for place in (range(at, min(97, at + 26)) if lean > 0 else range(at, max(-1, at - 26), -1))
            ]
            shadow = ImageChops.lighter(shadow, brushes.area(canvas.size, [*edge, *far[:1], *reversed(slope)]))
    if shadow.getbbox():
        shadow = ImageChops.multiply(shadow, mask)
        shadow = shadow.filter(ImageFilter.GaussianBlur(canvas.unit * 0.0015))
        canvas.image.paste(lee, mask=brushes.scaled(shadow, 0.75))
