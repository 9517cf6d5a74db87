"""Words: what the painter understands of a prompt.

    "a red boat on a stormy sea, no birds"
        ──read──▶  Reading(times=("storm",), grounds=("sea",), subjects=("boat",), coloured=(("boat", "red"),), …)

It knows no colours' values and no shapes, only meanings by name. A word that nobody taught it becomes a hue of its own,
so that every prompt is answered by a picture that is its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

from services.inference.painting.lexicon import (
    COLOUR_WORDS,
    GROUNDS,
    MOODS,
    NEGATIONS,
    PHRASES,
    SILENT,
    SUBJECTS,
    TIMES,
    WEATHER,
)

# A word is a run of letters or digits of any script; what Unicode calls a word, cut at apostrophes.
_WORD = re.compile(r"[^\W_]+")
_PHRASE = re.compile(rf"\b(?:{'|'.join(sorted(PHRASES, key=len, reverse=True))})\b")
_MAX_WORDS = 400  # the rest of a 10,000 character prompt changes the grain only


@dataclass(frozen=True, slots=True)
class Reading:
    """What a prompt asks for, by name; the order is that of the prompt."""

    times: tuple[str, ...]
    weather: tuple[str, ...]
    grounds: tuple[str, ...]
    subjects: tuple[str, ...]
    colours: tuple[str, ...]  # of the picture as a whole
    coloured: tuple[tuple[str, str], ...]  # (thing, colour): "a red boat" says nothing about the sky
    moods: frozenset[str]
    hues: tuple[float, ...]
    avoided: frozenset[str]

    @property
    def time(self) -> str | None:
        return self.times[0] if self.times else None

    def colour_of(self, thing: str) -> str | None:
        return next((word for known, word in self.coloured if known == thing), None)


def read(prompt: str, negative_prompt: str = "") -> Reading:
    """What the words ask for, less what the negative prompt (or a "no …" in the prompt) forbids."""
    said, denied = _split(prompt)
    avoided = frozenset(_meanings([*denied, *_words(negative_prompt)]))
    coloured, free = _bind(said, avoided)
    return Reading(
        times=tuple(time for time in TIMES if time in _known(said, _TIMES, avoided)),
        weather=_known(said, _WEATHER, avoided),
        grounds=_known(said, _GROUNDS, avoided),
        subjects=_known(said, _SUBJECTS, avoided),
        colours=_known(free, _COLOURS, avoided)[:4],
        coloured=coloured,
        moods=frozenset(_known(said, _MOODS, avoided)),
        hues=tuple(_hue(word) for word in dict.fromkeys(said) if not _meanings([word]) and word not in _SILENT)[:3],
        avoided=avoided,
    )


def _words(text: str) -> list[str]:
    plain = _PHRASE.sub(lambda found: PHRASES[found.group()], text.lower())
    return _WORD.findall(plain)[:_MAX_WORDS]


def _split(prompt: str) -> tuple[list[str], list[str]]:
    said: list[str] = []
    denied: list[str] = []
    negated = False
    for word in _words(prompt):
        (denied if negated else said).append(word)
        negated = word in _NEGATIONS
    return [word for word in said if word not in _NEGATIONS], denied


def _index(meanings: dict[str, str]) -> dict[str, tuple[str, ...]]:
    index: dict[str, tuple[str, ...]] = {}
    for meaning, words in meanings.items():
        for word in words.split():
            index[word] = (*index.get(word, ()), meaning)
    return index


def _stems(word: str) -> Iterator[str]:
    """The word, then what it may be the plural of."""
    yield word
    for ending, singular in (("ies", "y"), ("ves", "f"), ("es", ""), ("s", ""), ("y", "")):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            yield word.removesuffix(ending) + singular


def _look_up(word: str, index: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    return next((index[stem] for stem in _stems(word) if stem in index), ())


def _known(words: list[str], index: dict[str, tuple[str, ...]], avoided: frozenset[str]) -> tuple[str, ...]:
    found = dict.fromkeys(meaning for word in words for meaning in _look_up(word, index))
    return tuple(meaning for meaning in found if meaning not in avoided)


def _bind(words: list[str], avoided: frozenset[str]) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """The things with the colour said right before them, and the words that are left."""
    coloured: dict[str, str] = {}
    free = list(words)
    for before, word in pairwise(words):
        # A boat also brings the sea, but a red boat does not make it red: the thing comes before its place.
        things = _look_up(word, _SUBJECTS) or _look_up(word, _GROUNDS) or _look_up(word, _LIGHTS)
        shades = [shade for shade in _look_up(before, _COLOURS) if shade not in avoided]
        if things and shades:
            coloured |= {thing: shades[0] for thing in things if thing not in coloured}
            free = [one for one in free if one != before]
    return tuple(coloured.items()), free


def _meanings(words: list[str]) -> set[str]:
    return {meaning for word in words for index in _EVERY for meaning in _look_up(word, index)}


def _hue(word: str) -> float:
    return int.from_bytes(sha256(word.encode(errors="replace")).digest()[:2], "big") / 65536


_TIMES, _WEATHER, _GROUNDS = _index(TIMES), _index(WEATHER), _index(GROUNDS)
_SUBJECTS, _MOODS, _COLOURS = _index(SUBJECTS), _index(MOODS), _index(COLOUR_WORDS)
_LIGHTS = _index({light: WEATHER[light] for light in ("sun", "moon")})
_EVERY = (_TIMES, _WEATHER, _GROUNDS, _SUBJECTS, _MOODS, _COLOURS)
_SILENT, _NEGATIONS = frozenset(SILENT.split()), frozenset(NEGATIONS.split())
