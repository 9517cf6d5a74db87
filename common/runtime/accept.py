"""The Accept header of an HTTP request (RFC 9110, sections 12.4.2 and 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_QUALITY: Final = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")
_RANGE: Final = re.compile(r"[^\s/*]+/[^\s/*]+|[^\s/*]+/\*|\*/\*")


@dataclass(frozen=True, slots=True)
class Accept:
    """What a client accepts: media ranges in lower case with their quality, in the order of the header.

    Without a readable range everything is accepted. Parameters other than `q` are ignored, and a comma inside a quoted
    parameter ends the range: no media type of Darkroom has parameters.
    """

    ranges: tuple[tuple[str, float], ...]

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Accept:
        """`lines` are the values of all Accept headers; several headers mean the same as one joined by commas."""
        entries = [entry.lower().split(";") for line in lines for entry in line.split(",")]
        read = [(name.strip(), _quality(parameters)) for name, *parameters in entries]
        return cls(tuple((name, quality) for name, quality in read if _RANGE.fullmatch(name)))

    def quality(self, media_type: str) -> float:
        """0 (not acceptable) to 1, from the most specific range that matches."""
        if not self.ranges:
            return 1.0
        qualities: dict[str, float] = {}
        for name, quality in self.ranges:
            qualities[name] = max(quality, qualities.get(name, 0.0))
        matching = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        return next((qualities[name] for name in matching if name in qualities), 0.0)

    def names(self, media_type: str) -> bool:
        """Whether the client asks for this type by its name; a wildcard is not enough."""
        return any(name == media_type and quality > 0 for name, quality in self.ranges)

    def best(self, available: Sequence[str]) -> str | None:
        """The available type of the highest quality, or None if none is acceptable.

        Between equal qualities, a type that the header names comes before one that matches a wildcard. Then the order
        of the header decides, then the order of `available`.
        """
        named = [name for name, _ in self.ranges]

        def rank(offer: str) -> tuple[float, int]:
            return -self.quality(offer), named.index(offer) if offer in named else len(named)

        return min((offer for offer in available if self.quality(offer) > 0), key=rank, default=None)


def _quality(parameters: list[str]) -> float:
    """1 if there is no quality, or one that cannot be read."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return float(value) if _QUALITY.fullmatch(value.strip()) else 1.0
    return 1.0
