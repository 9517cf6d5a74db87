"""Growths: a tree and a flower large enough to be what the picture is about."""

from __future__ import annotations

import math
from random import Random

from PIL import Image, ImageChops, ImageFilter

from services.inference.painting import brushes
from services.inference.painting.brushes import Draw, Point
from services.inference.painting.canvas import Canvas
from services.inference.painting.land import shadow
from services.inference.painting.palette import Colour, colour, lit, mix


def tree(canvas: Canvas, foot: Point, size: float, tone: Colour) -> None:
    """A trunk that forks, and leaves in clumps, lighter ones on top."""
    rng = canvas.rng("tree")
    wood, tips = _limbs(rng, foot, size)
    shadow(canvas, *foot, size * 1.3)
    layer = brushes.Coloured(canvas.size, canvas.palette.local(colour("#4a3527")))
    for limb in wood:
        layer.polygon(limb, canvas.palette.local(colour("#4a3527")))
    lean = 1 if canvas.sun[0] > foot[0] else -1
    clump = size * 0.055
    for shade, lift in ((-0.45, 0.5), (-0.15, 0.0), (0.15, -0.5), (0.38, -0.9)):
        for x, y in tips if shade < 0 else [tip for tip in tips if rng.random() < 0.6]:
            for _ in range(canvas.some(11, 4)):
                r = clump * rng.uniform(0.18, 0.45)
                cx = x + rng.gauss(0, clump * 1.1) - lift * clump * 0.4 * lean
                cy = y + rng.gauss(0, clump * 0.8) + lift * clump
                layer.ellipse(cx, cy, r, r * 0.8, lit(tone, shade + rng.uniform(-0.06, 0.06)))
    layer.lay(canvas.image)


def _limbs(rng: Random, foot: Point, size: float) -> tuple[list[list[Point]], list[Point]]:
    """The outlines of trunk and branches, and the places where leaves grow."""
    wood: list[list[Point]] = []
    tips: list[Point] = []
    growing = [(foot, -math.pi / 2 + rng.uniform(-0.08, 0.08), size * 0.3, size * 0.032, 0)]
    while growing:
        (x, y), angle, long, thick, depth = growing.pop()
        end = (x + math.cos(angle) * long, y + math.sin(angle) * long)
        px, py, taper = -math.sin(angle) * thick, math.cos(angle) * thick, 0.66
        thin = [(end[0] - px * taper, end[1] - py * taper), (end[0] + px * taper, end[1] + py * taper)]
        wood.append([(x + px, y + py), (x - px, y - py), *thin])
        if depth >= 2:
            tips.append(end)
        forks = 0 if depth == 4 else 2 if depth else 4
        for fork in range(forks):
            turn = (fork / (forks - 1) - 0.5) * (1.0 if depth else 1.7) + rng.uniform(-0.22, 0.22)
            growing.append((end, angle + turn, long * rng.uniform(0.64, 0.8), thick * 0.64, depth + 1))
    return wood, tips


def flower(canvas: Canvas, foot: Point, size: float, tone: Colour) -> None:
    """One large bloom: rings of petals, each petal with light on its tip and shade at its heart."""
    rng = canvas.rng("flower")
    (x, y), (width, height) = foot, canvas.size
    radius = size * 0.5
    tone = mix(tone, lit(tone, 0.35), 0.6)  # the hero of its picture, it must not drown in the dusk
    cx = min(max(x, radius * 1.02), width - radius * 1.02) if width > radius * 2 else width / 2
    cy = max(radius * 1.05, min(height - radius * 1.05, y - size * 0.95))
    green = canvas.palette.local(colour("#3f7a3a"))

    def stem(pen: Draw, k: int) -> None:
        curve = [(cx + math.sin(t / 20 * 2.4) * size * 0.06, cy + (height + 4 - cy) * t / 20) for t in range(21)]
        pen.line([(a * k, b * k) for a, b in curve], fill=255, width=max(2, round(size * 0.028 * k)), joint="curve")
        for side, down in ((1, 0.55), (-1, 0.72)):
            node = (cx + math.sin(down * 2.4) * size * 0.06, cy + (height - cy) * down)
            leaf = [(0.0, 0.0), (0.12, -0.1), (0.3, -0.13), (0.46, -0.06), (0.3, 0.0), (0.12, 0.02)]
            curve = brushes.smooth([(node[0] + side * a * size, node[1] + b * size) for a, b in leaf])
            pen.polygon([(a * k, b * k) for a, b in curve], fill=255)

    canvas.image.paste(green, mask=brushes.outline(canvas.size, stem))
    rings, towards = canvas.some(6, 3), math.atan2(canvas.sun[1] - cy, canvas.sun[0] - cx)
    for ring in range(rings):
        share = ring / rings
        count, long = 11 - ring, radius * (1 - share * 0.86)
        start = rng.random() * math.tau
        for turn in range(count):
            angle = start + turn * math.tau / count + rng.uniform(-0.06, 0.06)
            shade = -0.3 + 0.5 * share + rng.uniform(-0.07, 0.07) + 0.14 * math.cos(angle - towards)
            _petal(canvas, (cx, cy), long * rng.uniform(0.93, 1.05), angle=angle, tone=lit(tone, shade))
    heart = radius * 0.13
    mask = brushes.glow(canvas.size, (cx, cy), (heart * 2,) * 2, 0.7)
    canvas.image.paste(mix(colour("#f4c542"), canvas.palette.near, 0.4 * canvas.palette.darkness), mask=mask)

    def stamens(pen: Draw, k: int) -> None:
        for _ in range(canvas.some(60, 20)):
            angle, away, r = rng.random() * math.tau, heart * 1.3 * rng.random() ** 0.5, heart * 0.1
            sx, sy = cx + math.cos(angle) * away, cy + math.sin(angle) * away
            pen.ellipse(((sx - r) * k, (sy - r) * k, (sx + r) * k, (sy + r) * k), fill=255)

    canvas.image.paste(
        lit(colour("#b0702a"), -0.3 * canvas.palette.darkness), mask=brushes.outline(canvas.size, stamens)
    )


def _petal(canvas: Canvas, heart: Point, long: float, *, angle: float, tone: Colour) -> None:
    """Drawn in the small box it fills: the whole canvas for each of fifty petals would take seconds."""
    (cx, cy), cos, sin = heart, math.cos(angle), math.sin(angle)
    half = ((0.0, 0.05), (0.3, 0.2), (0.62, 0.3), (0.88, 0.24), (1.0, 0.06))
    outline = [*half, *((a, -b) for a, b in reversed(half))]
    curve = brushes.smooth([(cx + (a * cos - b * sin) * long, cy + (a * sin + b * cos) * long) for a, b in outline], 5)
    edge_px = max(1.0, long * 0.03)
    left, top = (math.floor(min(side) - 2 * edge_px) for side in zip(*curve, strict=True))
    right, bottom = (math.ceil(max(side) + 2 * edge_px) for side in zip(*curve, strict=True))
    size = (right - left, bottom - top)
    mask = brushes.area(size, [(x - left, y - top) for x, y in curve])
    soft = mask.filter(ImageFilter.BoxBlur(edge_px))
    patch = Image.new("RGB", size, lit(tone, -0.5))
    tip = (cx - left + cos * long * 0.85, cy - top + sin * long * 0.85)
    patch.paste(lit(tone, 0.25), mask=brushes.glow(size, tip, (long * 1.05,) * 2, 0.8))
    patch.paste(lit(tone, 0.6), mask=brushes.scaled(ImageChops.subtract(mask, soft), 0.9))
    canvas.image.paste(lit(tone, -0.75), (left, top), brushes.scaled(soft, 0.4))
    canvas.image.paste(patch, (left, top), mask)
