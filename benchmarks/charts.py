"""Plots as SVG text without a library: grouped bars, lines over a logarithmic axis.

The colours differ on light and dark pages alike; each bar or point is the median, its whisker the minimum and maximum.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape

Series = Mapping[str, Sequence[Sequence[float]]]  # a name to its values by place, each of all rounds

COLOURS = ("#3b7dd8", "#e0872e", "#2f9e68", "#b45bc9", "#c9463d", "#7a7f87")
WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 64, 44
INK = "#6b7280"


def bars(title: str, places: Sequence[str], series: Series, *, unit: str, goal: float | None = None) -> str:
    """A group of bars for each place, one for each series."""
    top = _round_up(max([v for values in series.values() for each in values for v in each] + [goal or 0]))
    parts = [*_frame(title, unit, top), *_legend(series)]
    group = (WIDTH - LEFT - RIGHT) / len(places)
    bar = group * 0.8 / len(series)
    for number, (colour, values) in enumerate(zip(COLOURS, series.values(), strict=False)):
        for place, rounds in enumerate(values):
            if not rounds:
                continue
            x = LEFT + group * (place + 0.1) + bar * number
            y = _y(statistics.median(rounds), top)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar * 0.9:.1f}" height="{HEIGHT - BOTTOM - y:.1f}" '
                f'fill="{colour}"/>'
            )
            parts.append(_whisker(x + bar * 0.45, rounds, top))
    for place, name in enumerate(places):
        parts.append(_text(LEFT + group * (place + 0.5), HEIGHT - BOTTOM + 18, name, "middle"))
    if goal is not None:
        parts.append(_goal(goal, top))
    return _svg(parts)


def lines(title: str, places: Sequence[float], series: Series, *, unit: str, goal: float | None = None) -> str:
    """A line for each series; the places lie on a logarithmic axis, 0 at its left end."""
    top = _round_up(max([v for values in series.values() for each in values for v in each] + [goal or 0]))
    parts = [*_frame(title, unit, top), *_legend(series)]
    logs = [math.log10(max(place, 1)) for place in places]
    low, high = min(logs), max(logs)
    xs = [LEFT + 24 + (WIDTH - LEFT - RIGHT - 48) * (each - low) / (high - low or 1) for each in logs]
    for colour, values in zip(COLOURS, series.values(), strict=False):
        points = [(x, _y(statistics.median(rounds), top)) for x, rounds in zip(xs, values, strict=True) if rounds]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points)
        parts.extend(_whisker(x, rounds, top) for x, rounds in zip(xs, values, strict=True) if rounds)
    parts.extend(_text(x, HEIGHT - BOTTOM + 18, f"{place:,.0f}", "middle") for x, place in zip(xs, places, strict=True))
    if goal is not None:
        parts.append(_goal(goal, top))
    return _svg(parts)


def _svg(parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>', *parts, "</svg>\n"])


def _frame(title: str, unit: str, top: float) -> list[str]:
    parts = [
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="600" fill="#1f2937">{escape(title)}</text>',
        _text(12, TOP - 10, unit, "start"),
    ]
    for step in range(5):
        value = top * step / 4
        y = _y(value, top)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{value:,.6g}", "end"))
    return parts


def _legend(series: Series) -> list[str]:
    parts, x = [], float(LEFT)
    for colour, name in zip(COLOURS, series, strict=False):
        parts.append(f'<rect x="{x:.1f}" y="34" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(x + 15, 43, name, "start"))
        x += 34 + 6.6 * len(name)
    return parts


def _goal(goal: float, top: float) -> str:
    y = _y(goal, top)
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{INK}" stroke-dasharray="6 4"/>'
    return line + _text(WIDTH - RIGHT, y - 5, f"goal {goal:g}", "end")


def _whisker(x: float, rounds: Sequence[float], top: float) -> str:
    if len(rounds) < 2:
        return ""
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_y(min(rounds), top):.1f}" y2="{_y(max(rounds), top):.1f}" '
        'stroke="#1f2937" stroke-width="1.2"/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top


def _round_up(value: float) -> float:
    """To 1, 2, 4 or 8 times a power of ten: a quarter of it is a short number."""
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1
    return next(step * power for step in (1, 1.2, 1.6, 2, 4, 6, 8, 10) if step * power >= value)
