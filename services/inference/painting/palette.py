"""Colours: how they mix, and which of them a picture is painted with.

Mixing is done in OKLab (Björn Ottosson, 2020), where halfway between two colours looks halfway; in RGB the middle of
blue and orange is mud. This module knows words only as a `Reading`, and nothing of shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from services.inference.painting.vocabulary import Reading

Colour = tuple[int, int, int]
Stops = Sequence[Colour]


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one picture; `sky` runs from the zenith to the horizon."""

    sky: tuple[Colour, ...]
    light: Colour
    haze: Colour
    near: Colour
    accents: tuple[Colour, ...]
    darkness: float  # 0 bright day … 1 deep night
    tint: Colour | None = None  # the colour that was asked for first
    shunned: tuple[Colour, ...] = ()

    def local(self, own: Colour, distance: float = 0.0, said: str | None = None) -> Colour:
        """A thing's own colour (or the one `said` of it) under this light, at a distance of 0 … 1 (all haze)."""
        seen = mix(tinted(own, named(said), 1.0), named(said), 0.4) if said else own
        seen = tinted(seen, self.tint, 0.4) if self.tint and not said else seen
        gloom = (0.2 + 0.62 * self.darkness) * (0.7 if said else 1.0)  # a colour that was asked for has to be seen
        seen = mix(mix(seen, self.near, gloom), self.sky[-2], 0.12)
        return mix(_shun(seen, self.shunned), self.haze, distance)


# zenith → horizon, light, near, darkness
TIMES: dict[str, tuple[str, str, str, float]] = {
    "day": ("#2b6cb3 #66a7dc #b4dbee #e9f4ee", "#fff3d0", "#17392f", 0.0),
    "dawn": ("#4a5f9e #9d8fbf #eab3a8 #ffe3b8", "#fff0cf", "#2c2b4a", 0.2),
    "sunset": ("#262a5f #7a3b80 #e0605c #ffb25e #ffe09a", "#fff0b8", "#1c1230", 0.35),
    "dusk": ("#141a42 #3d3a78 #8a5590 #d98a8f #f6c39c", "#ffe2bd", "#12122c", 0.6),
    "night": ("#040818 #0a1738 #173258 #2f5377 #54789a", "#e9f0ff", "#03060e", 1.0),
    "storm": ("#1d2530 #36424f #61707c #a3adaf", "#e8eee6", "#10171c", 0.5),
    "fog": ("#a9b6bd #c3cdd0 #dbe1df #eeeee6", "#fffaf0", "#33413f", 0.05),
    "winter": ("#5f86b4 #9dbad6 #d2e1ec #f7f1ec", "#fff6e6", "#22344a", 0.05),
    "autumn": ("#5b86a8 #a9bdb8 #ecd5a4 #fbe6bd", "#fff1c8", "#3a1c12", 0.1),
    "space": ("#020208 #070618 #0d0a26 #060613", "#fff4e0", "#020206", 1.0),
}

# What a picture without a time of day may be: the kind ones.
PLEASANT = ("day", "dawn", "sunset", "dusk", "dawn", "sunset")

COLOURS: dict[str, str] = {
    "red": "#d8333a", "crimson": "#b3123a", "scarlet": "#e2331f", "orange": "#f28020", "amber": "#f5a623",
    "gold": "#e9b949", "yellow": "#f6d743", "lime": "#a5d63a", "green": "#3f9b4f", "emerald": "#149a6a",
    "olive": "#83863a", "teal": "#16878a", "turquoise": "#30c0bd", "cyan": "#2fc4e0", "azure": "#3a96e8",
    "blue": "#2b62cf", "navy": "#1b2c6b", "indigo": "#463aa8", "violet": "#7b4fd0", "purple": "#8238a8",
    "lavender": "#b39be0", "magenta": "#cf2f9a", "pink": "#f291b5", "rose": "#e5627f", "peach": "#fbb48c",
    "coral": "#fb7963", "brown": "#80522f", "copper": "#b9693a", "bronze": "#a37a3e", "beige": "#dfcba4",
    "cream": "#f7ecd2", "silver": "#bfc7d0", "grey": "#86898f", "black": "#121216", "white": "#fafaf8",
}  # fmt: skip


def colour(code: str) -> Colour:
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def named(word: str) -> Colour:
    return colour(COLOURS[word])


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`share` 0 is `one`, 1 is `other`."""
    a, b = _lab(one), _lab(other)
    return _rgb(a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def lit(one: Colour, by: float) -> Colour:
    """Lighter by `by` (-1 … 1) of the lightness that is left on that side."""
    lightness, a, b = _lab(one)
    lightness += (1 - lightness if by > 0 else lightness) * by
    return _rgb(lightness, a * (1 - abs(by) * 0.4), b * (1 - abs(by) * 0.4))


def tinted(one: Colour, towards: Colour, share: float) -> Colour:
    """The same lightness (nearly), in the hue of `towards`."""
    a, b = _lab(one), _lab(towards)
    lightness = a[0] + (b[0] - a[0]) * share * 0.25
    return _rgb(lightness, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def rotated(one: Colour, turn: float) -> Colour:
    """The same lightness and strength, `turn` of the way around the wheel."""
    lightness, a, b = _lab(one)
    cos, sin = math.cos(turn * math.tau), math.sin(turn * math.tau)
    return _rgb(lightness, a * cos - b * sin, a * sin + b * cos)


def along(stops: Stops, at: float) -> Colour:
    """The colour at `at` (0 … 1) on evenly spaced stops."""
    place = min(max(at, 0.0), 1.0) * (len(stops) - 1)
    left = min(int(place), len(stops) - 2)
    return mix(stops[left], stops[left + 1], place - left)


def hue(turn: float, lightness: float = 0.68, chroma: float = 0.14) -> Colour:
    """A colour by its angle on the wheel, 0 … 1."""
    angle = turn * math.tau
    return _rgb(lightness, chroma * math.cos(angle), chroma * math.sin(angle))


def choose(reading: Reading, rng: Random) -> Palette:
    """The palette that a reading asks for; where it leaves the choice, `rng` makes it."""
    time = reading.time or rng.choice([name for name in PLEASANT if name not in reading.avoided] or PLEASANT)
    codes, light, near, darkness = TIMES[time]
    sky = [colour(code) for code in codes.split()]
    asked = [named(word) for word in reading.colours]
    # Words nobody taught it still answer: each has a hue of its own.
    dreamt = [hue(turn) for turn in reading.hues]
    things = [named(word) for _, word in reading.coloured]
    accents = asked + things + dreamt or [hue(rng.random()), hue(rng.random())]
    painted = [tinted(stop, _spread(asked, at, len(sky)), 0.72) if asked else stop for at, stop in enumerate(sky)]
    ground = tinted(colour(near), asked[0], 0.4) if asked else colour(near)
    if reading.hues and not asked:
        # Turned as a whole, a sky keeps its harmony; mixed with a strange colour it turns grey.
        turn = (reading.hues[0] - 0.5) * (0.1 if reading.time else 0.24)
        painted, ground = [rotated(stop, turn) for stop in painted], rotated(ground, turn)
    if "fog" in reading.times and time != "fog":
        painted = [mix(stop, colour("#dde3e4"), 0.4 * (1 - darkness)) for stop in painted]
    if "black" in reading.colours or "dark" in reading.moods:
        painted, darkness = [lit(stop, -0.35) for stop in painted], min(1.0, darkness + 0.25)
    if "white" in reading.colours or "bright" in reading.moods:
        painted, ground = [lit(stop, 0.3) for stop in painted], lit(ground, 0.12)
    shunned = [named(word) for word in reading.avoided if word in COLOURS]
    safe = [_shun(stop, shunned) for stop in painted]
    glow = tinted(colour(light), asked[-1], 0.22) if asked else colour(light)
    burning = reading.colour_of("sun") or reading.colour_of("moon")
    glow = mix(glow, named(burning), 0.6) if burning else glow
    return Palette(
        sky=tuple(safe),
        light=_shun(glow, shunned),
        haze=mix(safe[-1], safe[len(safe) // 2], 0.45),
        near=_shun(ground, shunned),
        accents=tuple(_shun(accent, shunned) for accent in accents),
        darkness=darkness,
        tint=asked[0] if asked else None,
        shunned=tuple(shunned),
    )


def _spread(tints: Stops, at: int, of: int) -> Colour:
    return tints[0] if len(tints) == 1 else along(tints, at / (of - 1))


def _shun(one: Colour, shunned: Stops) -> Colour:
    """`one`, turned away from hues that the negative prompt names."""
    for other in shunned:
        lightness, a, b = _lab(one)
        _, x, y = _lab(other)
        chroma, strength = math.hypot(a, b), math.hypot(x, y)
        if chroma < 0.02 or strength < 0.03:
            continue
        if (a * x + b * y) / (chroma * strength) > 0.5:  # within 60° of the hue
            one = _rgb(lightness, -b if a * y - b * x > 0 else b, a if a * y - b * x > 0 else -a)
            one = tinted(one, (128, 128, 128), 0.35)
    return one


def _lab(one: Colour) -> tuple[float, float, float]:
    red, green, blue = (_LINEAR[channel] for channel in one)
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    medium = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _rgb(lightness: float, a: float, b: float) -> Colour:
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        _gamma(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        _gamma(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        _gamma(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


def _gamma(linear: float) -> int:
    if linear <= 0.0031308:
        return max(0, round(linear * 12.92 * 255))
    return min(255, round((1.055 * math.pow(linear, 1 / 2.4) - 0.055) * 255))


_LINEAR = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in range(256)]
