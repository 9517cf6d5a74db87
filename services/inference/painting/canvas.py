"""The canvas: the picture in work, and what every layer needs to know to paint on it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from random import Random

from PIL import Image

from services.inference.painting.brushes import Point, Size
from services.inference.painting.palette import Palette
from services.inference.painting.vocabulary import Reading


@dataclass(slots=True)
class Canvas:
    """`composition` places things and is shared by all prompts of a seed, so a changed word changes that word only."""

    image: Image.Image
    reading: Reading
    palette: Palette
    composition: str
    finesse: float  # 0 sketch … 1 finished; from the steps
    horizon: float  # pixels from the top
    sun: Point  # where the light comes from, pixels
    clearings: tuple[float, ...] = ()  # x of things on the ground, which trees leave room for

    @property
    def size(self) -> Size:
        return self.image.size

    @property
    def unit(self) -> float:
        """The length that sizes of things are measured in: mostly the shorter side, so panoramas stay calm."""
        return float(min(self.size) ** 0.8 * max(self.size) ** 0.2)

    def rng(self, layer: str) -> Random:
        """Chance of a layer's own: a layer more or less leaves the others where they are."""
        return chance(self.composition, layer)

    def is_clear(self, x: float) -> bool:
        return all(abs(x - place) > self.unit * 0.2 for place in self.clearings)

    def some(self, most: float, least: float = 1) -> int:
        """A number of details, by how finely this picture is painted."""
        return round(least + (most - least) * self.finesse)


def chance(*parts: object) -> Random:
    """A generator of random numbers that depends on the parts, and on nothing else: not on the process."""
    return Random(sha256("\x1f".join(map(str, parts)).encode(errors="replace")).digest())
