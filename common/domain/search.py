"""The history of an owner: its order, its filters, what it means that a prompt matches a search.

A prompt and a search are folded (`fold`) and cut into words. A search matches if each of its terms occurs in the prompt
as the beginning of a word, or as a whole word if it is a single letter. So `sea li` finds "a lighthouse by the sea".
There are no operators: `OR`, `*` and quotes are words, or separate words.

    script                        words of a text
    ──────────────────────────    ───────────────────────────────────────────────────────────────────
    with spaces between words     runs of letters and digits: `sci-fi 4k` ─▶ sci, fi, 4k
    without (Chinese, Thai, …)    each letter with the next one: `灯台守` ─▶ 灯台, 台守, 守
    emoji and other symbols       each is a word

Both stores have to agree, so they keep what `words_of` returns and compare nothing but the beginnings of these words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from common.domain.images import Image, Status

MAX_WORD: Final = 40  # characters; the rest of a longer word does not count
MAX_WORDS: Final = 1000  # of one prompt: about what 4,000 characters hold, and a bound for the index
MAX_QUERY: Final = 200  # characters

# Scripts that are written without spaces: Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003fffd"
)
_RUN_OF_ONE_KIND: Final = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_IS_UNSPACED: Final = re.compile(f"[{_UNSPACED}]")
_ASCII_WORD: Final = re.compile("[a-z0-9]+")


def fold(text: str) -> str:
    """The text without case, accents and variants: `Café ﬁne Straße` ─▶ `cafe fine strasse`."""
    if text.isascii():
        return text.lower()
    folded = _without_marks(_without_marks(text).casefold())
    return folded if folded == text else fold(folded)  # a few letters need two rounds


def words_of(text: str) -> list[str]:
    """The different words of a prompt, in their order, as the stores keep them."""
    return list(dict.fromkeys(word for run in _runs(text) for word in _words_of_run(run)))[:MAX_WORDS]


@dataclass(frozen=True, slots=True)
class HistoryPosition:
    """The start of a page of the history: after the image with this time, index in its batch and id.

    `index` is None for an image without a batch, which is older than the batches of the same moment.
    """

    created_at: datetime
    id: str
    index: int | None = None

    @classmethod
    def of(cls, image: Image) -> HistoryPosition:
        return cls(image.created_at, image.id, image.batch.index if image.batch is not None else None)

    @property
    def order(self) -> tuple[datetime, int, str]:
        """What positions are sorted by."""
        return self.created_at, -1 if self.index is None else self.index, self.id


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a search: a word, or the beginning of one."""

    text: str
    is_prefix: bool

    def occurs_in(self, words: Collection[str]) -> bool:
        return any(word.startswith(self.text) for word in words) if self.is_prefix else self.text in words


def terms_of(query: str) -> tuple[Term, ...]:
    """The different terms of a search; none if it has no words, which matches everything."""
    return tuple(dict.fromkeys(term for run in _runs(query) for term in _terms_of_run(run)))


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Which images of an owner are wanted, beside their status; times are in whole milliseconds."""

    terms: tuple[Term, ...] = ()
    model: str | None = None
    since: datetime | None = None  # created at this time or later
    until: datetime | None = None  # created before this time
    pinned: bool | None = None
    batch_id: str | None = None

    @property
    def needs_index(self) -> bool:
        """Whether more than the time and the batch is asked for."""
        return bool(self.terms) or self.model is not None or self.pinned is not None

    @property
    def is_more_than_batch(self) -> bool:
        """Whether it filters by more than releases without a search did."""
        return self.needs_index or self.since is not None or self.until is not None

    def matches(self, image: Image) -> bool:
        words = words_of(image.prompt) if self.terms else []
        return (
            all(term.occurs_in(words) for term in self.terms)
            and self.model in {None, image.model}
            and self.pinned in {None, image.pinned}
            and self.batch_id in {None, image.batch.id if image.batch is not None else None}
            and (self.since is None or image.created_at >= self.since)
            and (self.until is None or image.created_at < self.until)
        )

    def selects(self, image: Image, owner: str, statuses: Collection[Status]) -> bool:
        """Whether the history of the owner, with these statuses, shows this image."""
        is_visible = image.owner == owner and image.deleted_at is None and image.status in statuses
        return is_visible and self.matches(image)


EVERYTHING: Final = HistoryFilter()


def _without_marks(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if not unicodedata.category(letter).startswith("M"))


def _runs(text: str) -> list[str]:
    """Runs of letters and digits of one kind of script, and single symbols."""
    folded = fold(text)
    if folded.isascii():  # by far the most: five times as fast
        return _ASCII_WORD.findall(folded)
    spaced = "".join(map(_spaced, folded))
    return [run for part in spaced.split() for run in _RUN_OF_ONE_KIND.findall(part)]


def _spaced(letter: str) -> str:
    category = unicodedata.category(letter)
    if category[0] in "LN":
        return letter
    return f" {letter} " if category == "So" else " "


def _words_of_run(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run))] if _IS_UNSPACED.match(run) else [run[:MAX_WORD]]


def _terms_of_run(run: str) -> list[Term]:
    if not _IS_UNSPACED.match(run):
        return [Term(run[:MAX_WORD], is_prefix=len(run) > 1)]
    if len(run) == 1:
        return [Term(run, is_prefix=True)]
    return [Term(run[at : at + 2], is_prefix=True) for at in range(len(run) - 1)]
