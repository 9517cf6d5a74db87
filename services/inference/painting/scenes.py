"""Scenes: which layers a reading asks for, and in which order they are painted, from far to near."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from services.inference.painting import city, fancies, grounds, land, meadow, skies, subjects, water, weather
from services.inference.painting.canvas import Canvas
from services.inference.painting.shapes import SHAPES
from services.inference.painting.vocabulary import Reading

Stroke = Callable[[], None]

# What a prompt without a place may be set in.
PLACES = ("mountain", "hills", "sea", "lake", "desert", "forest", "meadow", "abstract")

# How each kind of land is drawn, in how many layers, and in how many where something else lies in front of it.
_LANDS: dict[str, tuple[Callable[[Canvas, int, int], None], int, int]] = {
    "mountain": (grounds.mountains, 5, 2),
    "hills": (grounds.hills, 6, 2),
    "desert": (grounds.desert, 5, 2),
    "city": (city.city, 3, 3),
    "forest": (grounds.forest, 6, 2),
}


def fitting(reading: Reading) -> list[str]:
    """Where a picture may be set whose prompt names no place; never empty."""
    unfit = set(reading.avoided)
    if {"winter", "snow"} & {*reading.times, *reading.weather}:
        unfit |= {"desert", "meadow"}
    if reading.subjects:  # things stand on land
        unfit |= {"sea", "lake"}
    if reading.subjects or reading.times or reading.weather:
        unfit.add("abstract")
    return [place for place in PLACES if place not in unfit] or ["hills"]


def strokes(canvas: Canvas) -> list[Stroke]:
    """The work, in order; each stroke is small enough to be a step, or a part of one."""
    canvas.clearings = subjects.standing(canvas)
    for place, scene in (("depths", _depths), ("space", _space), ("abstract", _abstract)):
        if place in canvas.reading.grounds:
            return list(scene(canvas))
    return list(_landscape(canvas))


def _landscape(canvas: Canvas) -> Iterator[Stroke]:
    scene = set(canvas.reading.grounds)
    wet = bool(scene & {"sea", "lake"})
    kinds = [kind for kind in _LANDS if kind in scene]
    if not kinds and "lake" in scene:
        kinds = ["mountain"]
    if not kinds and "meadow" in scene:
        kinds = ["hills"]
    yield from _sky(canvas)
    for kind in kinds:
        is_far = wet or kind != kinds[-1] or (kind != "forest" and "meadow" in scene)
        yield from _land(canvas, kind, is_far=is_far)
    if wet:
        yield from _water(canvas)
    if "meadow" in scene:
        yield partial(meadow.meadow, canvas)
        bare = land.is_wintry(canvas) or "flower" in canvas.reading.avoided
        for row in range(0 if bare else canvas.some(4, 2)):
            yield partial(meadow.blooms, canvas, row)
    yield from _subjects(canvas)
    yield from _falling(canvas)


def _sky(canvas: Canvas) -> Iterator[Stroke]:
    air, avoided, time = canvas.reading.weather, canvas.reading.avoided, canvas.reading.time
    overcast = bool({"rain", "lightning"} & {*air}) or time in ("storm", "fog")
    dark = canvas.palette.darkness > 0.8 and not overcast
    yield partial(skies.sky, canvas)
    if "stars" not in avoided and ("stars" in air or dark or (time == "dusk" and not overcast)):
        yield partial(skies.stars, canvas)
    if "nebula" in air or (dark and "stars" not in avoided and canvas.finesse > 0.5):
        yield partial(skies.milky, canvas)
    if "aurora" in air:
        yield partial(weather.aurora, canvas)
    if not overcast:
        yield partial(skies.halo, canvas)
    yield from _light(canvas, dark=dark, overcast=overcast)
    if "clouds" not in avoided and ("clouds" in air or not (canvas.palette.darkness > 0.8 or "stars" in air)):
        amount = 1.2 if overcast else 0.85 if "clouds" in air else canvas.rng("cover").uniform(0.25, 0.6)
        yield partial(skies.clouds, canvas, amount)
    for what, draw in (("rainbow", weather.rainbow), ("lightning", weather.lightning)):
        if what in air:
            yield partial(draw, canvas)
    by_chance = canvas.palette.darkness < 0.8 and "birds" not in avoided and canvas.rng("birds?").random() < 0.3
    if "birds" in air or by_chance:
        yield partial(weather.birds, canvas)


def _light(canvas: Canvas, *, dark: bool, overcast: bool) -> Iterator[Stroke]:
    """The one body that the light comes from."""
    air, avoided = canvas.reading.weather, canvas.reading.avoided
    if "planet" in air:
        yield partial(fancies.planet, canvas, 0)
    elif "moon" in air or (dark and "aurora" not in air and "moon" not in avoided):
        yield partial(skies.moon, canvas)
    elif canvas.palette.darkness < 0.8 and not overcast and "sun" not in avoided:
        yield partial(skies.sun, canvas)


def _land(canvas: Canvas, kind: str, *, is_far: bool) -> Iterator[Stroke]:
    draw, layers, far_layers = _LANDS[kind]
    shown = far_layers if is_far else layers
    for layer in range(shown):
        yield partial(draw, canvas, layer, layers)
        if kind == "mountain" and layer < shown - 1:
            y, thick = canvas.horizon + layer * canvas.unit * 0.07, canvas.unit * 0.13
            yield partial(land.mist, canvas, f"{kind} {layer}", y, thick, 0.5)


def _water(canvas: Canvas) -> Iterator[Stroke]:
    reading = canvas.reading
    yield partial(water.water, canvas)
    for batch in range(canvas.some(6, 1)):
        yield partial(water.ripples, canvas, batch)
    if "rain" not in reading.weather and "sun" not in reading.avoided:
        yield partial(water.glitter, canvas)
    swells = canvas.some(4, 2) if "lake" not in reading.grounds else 0
    for layer in range(swells):
        yield partial(water.waves, canvas, layer, swells)
    if any(SHAPES[name].place == "ground" for name in reading.subjects):
        yield partial(water.shore, canvas)


def _subjects(canvas: Canvas) -> Iterator[Stroke]:
    named = canvas.reading.subjects[: subjects.MOST]
    for at, name in enumerate(named):
        yield partial(subjects.subject, canvas, name, canvas.reading.colour_of(name), at, len(named))


def _falling(canvas: Canvas) -> Iterator[Stroke]:
    if "rain" in canvas.reading.weather:
        yield partial(weather.rain, canvas)
    for what in ("snow", "petals", "leaves", "fireflies"):
        if what in canvas.reading.weather:
            yield partial(weather.flakes, canvas, what)


def _space(canvas: Canvas) -> Iterator[Stroke]:
    for draw in (skies.sky, skies.stars, skies.milky, skies.halo):
        yield partial(draw, canvas)
    for at in range(canvas.rng("planets").choice((1, 2, 2, 3))):
        yield partial(fancies.planet, canvas, at)
    for kind in ("mountain", "desert", "city"):
        if kind in canvas.reading.grounds:
            yield from _land(canvas, kind, is_far=False)
    yield from _subjects(canvas)
    yield from _falling(canvas)


def _abstract(canvas: Canvas) -> Iterator[Stroke]:
    layers = canvas.some(9, 4)
    yield partial(fancies.backdrop, canvas)
    for layer in range(layers):
        yield partial(fancies.ribbon, canvas, layer, layers)
    yield partial(fancies.orbs, canvas)
    yield from _subjects(canvas)
    yield from _falling(canvas)


def _depths(canvas: Canvas) -> Iterator[Stroke]:
    yield partial(fancies.depths, canvas)
    yield partial(fancies.shafts, canvas)
    yield partial(fancies.reef, canvas, 0)
    yield from _subjects(canvas)
    yield partial(fancies.bubbles, canvas)
    yield partial(fancies.reef, canvas, 1)
