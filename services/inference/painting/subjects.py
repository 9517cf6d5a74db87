"""Subjects: the things a prompt names, set into the picture and lit by its light."""

from __future__ import annotations

import math

from PIL import Image, ImageChops, ImageFilter

from services.inference.painting import brushes, growths
from services.inference.painting.brushes import Draw, Point
from services.inference.painting.canvas import Canvas
from services.inference.painting.land import shadow
from services.inference.painting.palette import Colour, colour, lit, mix, named
from services.inference.painting.shapes import GLOW, SHAPES, Part, Shape, parts

MOST = 4  # more would hide each other


def subject(canvas: Canvas, name: str, said: str | None, at: int, of: int) -> None:
    """The `at`-th of `of` things; `said` is the colour word before it."""
    shape = SHAPES[name]
    x, y, size = _place(canvas, shape, at, of)
    if name in ("tree", "flower"):
        leaf = "#cf6f2a" if name == "tree" and "autumn" in canvas.reading.times else shape.own
        own = named(said) if said else colour(leaf)
        tone = mix(canvas.palette.local(own), own, 0.5)
        (growths.tree if name == "tree" else growths.flower)(canvas, (x, y), size, tone)
        return
    own = named(said) if said else colour(shape.own)
    tone = canvas.palette.local(own, said=said) if said else mix(canvas.palette.local(own), canvas.palette.near, 0.12)
    tone = mix(tone, own, 0.3)  # it is what the prompt is about: never quite lost in the dark
    if shape.place == "deep" and "depths" in canvas.reading.grounds:
        tone = own
    flip = shape.place in ("deep", "sky", "water") and canvas.rng(f"subject {name}").random() < 0.5
    _draw(canvas, name, (x, y), size=size, tone=tone, facing=-1 if flip else 1)


def standing(canvas: Canvas) -> tuple[float, ...]:
    """Where on the ground things stand, in pixels from the left."""
    named_ = canvas.reading.subjects[:MOST]
    places = [(SHAPES[name], _place(canvas, SHAPES[name], at, len(named_))) for at, name in enumerate(named_)]
    return tuple(x for shape, (x, _, _) in places if shape.place == "ground")


def _place(canvas: Canvas, shape: Shape, at: int, of: int) -> tuple[float, float, float]:
    """Where it stands and how tall: x of its middle, y of its foot."""
    rng = canvas.rng(f"place {at}")
    width, height = canvas.size
    alone = of == 1
    side = canvas.sun[0] / width
    # One thing stands across from the light, several stand in a row.
    share = (0.36 if side > 0.5 else 0.64) if alone else 0.1 + 0.8 * (at + 0.5) / of
    share += rng.uniform(-0.07, 0.07)
    size = canvas.unit * shape.size * rng.uniform(0.95, 1.25) * (1.0 if alone else 0.85)
    room = height - canvas.horizon
    if shape.place == "sky":
        return share * width, max(size * 1.2, canvas.horizon * rng.uniform(0.66, 0.88)), size
    if shape.place == "water":
        return share * width, canvas.horizon + room * rng.uniform(0.1, 0.3), size
    if shape.place == "deep":
        under = "depths" in canvas.reading.grounds
        foot = height * rng.uniform(0.45, 0.75) if under else canvas.horizon + room * 0.45
        return share * width, foot, size * (1.3 if under else 1)
    if {"sea", "lake"} & set(canvas.reading.grounds):
        return share * width, height - canvas.unit * 0.055, size
    return share * width, canvas.horizon + room * rng.uniform(0.72, 0.92), size


def _draw(canvas: Canvas, name: str, at: Point, *, size: float, tone: Colour, facing: int) -> None:
    (x, y), shape = at, SHAPES[name]
    reach = round(size * 1.35)
    patch = Image.new("RGB", (2 * reach, round(size * 1.5)), tone)
    foot = size * 1.25
    whole = Image.new("L", patch.size)
    shining = Image.new("L", patch.size)
    for part in parts(name):

        def draw(pen: Draw, k: int, part: Part = part) -> None:
            points = [((reach + a * facing * size) * k, (foot + b * size) * k) for a, b in part.points]
            _part(pen, part, points, size * k)

        mask = brushes.outline(patch.size, draw)
        patch.paste((255, 228, 150) if part.tone == GLOW else lit(tone, part.tone * 0.8), mask=mask)
        if part.tone == GLOW:
            shining = ImageChops.lighter(shining, mask)
        whole = ImageChops.lighter(whole, mask)
    _model(canvas, patch, whole, (x - reach, y - foot), size)
    corner = (round(x - reach), round(y - foot))
    if shape.place == "ground":
        shadow(canvas, x, y, size)
    if shape.place == "water":
        _mirror(canvas, patch, whole, (corner[0], round(y)), foot)
    canvas.image.paste(patch, corner, whole)
    if shining.getbbox():
        lamp = Image.new("L", canvas.size)
        lamp.paste(shining, corner)
        soft = lamp.filter(ImageFilter.GaussianBlur(size * 0.05))
        brushes.light(canvas.image, (255, 205, 120), ImageChops.add(soft, soft), 0.35 + 0.5 * canvas.palette.darkness)


def _mirror(canvas: Canvas, patch: Image.Image, whole: Image.Image, corner: tuple[int, int], foot: float) -> None:
    """Its reflection, shortened and blurred, below the water line."""
    box = (0, 0, patch.width, round(foot))
    flat = (patch.width, max(1, round(foot * 0.55)))
    image, mask = (one.crop(box).transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize(flat) for one in (patch, whole))
    blur = ImageFilter.BoxBlur((foot * 0.012, foot * 0.03))
    canvas.image.paste(image.filter(blur), corner, brushes.scaled(mask.filter(blur), 0.42))


def _model(canvas: Canvas, patch: Image.Image, whole: Image.Image, corner: Point, size: float) -> None:
    """Roundness: brighter towards the light, darker away from it, and a lit edge."""
    sun = (canvas.sun[0] - corner[0], canvas.sun[1] - corner[1])
    middle = (patch.width / 2, patch.height * 0.55)
    away = math.hypot(sun[0] - middle[0], sun[1] - middle[1]) or 1.0
    towards = ((sun[0] - middle[0]) / away, (sun[1] - middle[1]) / away)
    dark = brushes.glow(
        patch.size, (middle[0] - towards[0] * size * 0.55, middle[1] + size * 0.4), (size * 0.8,) * 2, 1.0
    )
    patch.paste(canvas.palette.near, mask=brushes.scaled(dark, 0.5))
    step = max(1, round(size * 0.014))
    edge = brushes.rim(whole, round(towards[0] * step * 1.6), round(towards[1] * step * 1.6))
    brushes.light(patch, canvas.palette.light, edge.filter(ImageFilter.GaussianBlur(step * 0.5)), 0.85)


def _part(pen: Draw, part: Part, points: list[Point], size: float) -> None:
    if part.kind == "blob":
        pen.polygon(brushes.smooth(points), fill=255)
    elif part.kind == "poly":
        pen.polygon(points, fill=255)
    elif part.kind == "oval":
        (x0, y0), (x1, y1) = points
        pen.ellipse((min(x0, x1), y0, max(x0, x1), y1), fill=255)
    else:
        thick = max(1.0, part.width * size)
        # An open curve: smoothed as a closed one whose way back is cut off.
        curve = [*brushes.smooth([*points, *points[-2:0:-1]])[: (len(points) - 1) * 8 + 1]]
        pen.line(curve, fill=255, width=round(thick), joint="curve")
        for x, y in (curve[0], curve[-1]):
            pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=255)
