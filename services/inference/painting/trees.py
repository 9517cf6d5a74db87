"""Trees: conifers as outlines, and round crowns in colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from services.inference.painting import brushes
from services.inference.painting.brushes import Draw, Point
from services.inference.painting.canvas import Canvas
from services.inference.painting.palette import Colour, lit, mix


def conifer(pen: Draw, k: int, rng: Random, foot: Point, *, tall: float, tiers: int) -> None:
    x, y = foot
    wide, left, right = tall * rng.uniform(0.14, 0.2), [], []
    for tier in range(tiers):
        low = (tier + 1) / tiers
        out = wide * (0.12 + 0.88 * low) * rng.uniform(0.8, 1.15)
        left += [(x - out, y - tall * (0.96 - 0.9 * low)), (x - out * 0.5, y - tall * (0.99 - 0.9 * low))]
        out = wide * (0.12 + 0.88 * low) * rng.uniform(0.8, 1.15)
        right += [(x + out, y - tall * (0.96 - 0.9 * low)), (x + out * 0.5, y - tall * (0.99 - 0.9 * low))]
    points = [(x, y - tall), *left, (x - wide * 0.1, y), (x + wide * 0.1, y), *reversed(right)]
    pen.polygon([(a * k, b * k) for a, b in points], fill=255)


def crowns(
    canvas: Canvas, rng: Random, trees: Sequence[tuple[float, float, float]], bark: Colour, leaves: Sequence[Colour]
) -> None:
    """Trees with round crowns at (x, y, height): clumps of leaves, darker below, lit from the side of the sun."""
    layer = brushes.Coloured(canvas.size, mix(leaves[0], bark, 0.3))
    for x, y, tall in sorted(trees, key=lambda tree: tree[1]):
        trunk, tone = tall * 0.04, rng.choice(leaves)
        layer.polygon(
            [(x - trunk, y), (x + trunk, y), (x + trunk * 0.4, y - tall * 0.6), (x - trunk * 0.4, y - tall * 0.6)], bark
        )
        lean = 0.06 if canvas.sun[0] > x else -0.06
        for shade, lift, wide in ((-0.3, 0.0, 1.0), (0.0, 0.06, 0.8), (0.2, 0.13, 0.5)):
            for _ in range(canvas.some(9, 4)):
                angle, away = rng.random() * math.tau, rng.random() ** 0.6 * tall * 0.22 * wide
                r = tall * rng.uniform(0.08, 0.16) * (0.55 + 0.45 * wide)
                cx = x + lean * lift * 10 * tall + away * math.cos(angle)
                cy = y - tall * (0.64 + lift) + away * 0.85 * math.sin(angle)
                layer.ellipse(cx, cy, r, r * 0.92, lit(tone, shade + rng.uniform(-0.05, 0.05)))
    layer.lay(canvas.image)
