"""Time of a page of a search with its total, for a fixed set of searches among up to 10^6 images.

Half of the images belong to one owner, the others to a thousand. Their prompts have a dozen words, of which a few are
in most prompts and thousands in hardly any, as Zipf's law has it. A search is what the route of the history asks of the
store: 21 images, and the total up to 1,001.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import accumulate, islice
from pathlib import Path
from typing import Final

from benchmarks.filled_store import BORN, OWNER, Variation, an_image, fill_store
from benchmarks.measurements import Table, percentile, report_progress, save_results
from common.domain.images import Image, Status, new_image_id
from common.domain.search import HistoryFilter, HistoryPosition, terms_of
from common.store.connect import open_store
from common.store.port import Store

PAGE: Final = 20
COUNTED: Final = 1001
GOAL_MS: Final = 20
ROUNDS: Final = 20
COLUMNS: Final = ("p50 ms", "p95 ms", "p50 CPU ms", "p95 CPU ms")
COMPLETED: Final = frozenset({Status.COMPLETED})

_FREQUENT: Final = """
    a of the in with portrait light photo cinematic detailed lighting photorealistic woman man city night sea mountain
    forest lighthouse dusk fox painting watercolour café 4k masterpiece illustration
"""
_SYLLABLES: Final = "li ght hou se por tra it mo un ta in sto rm sea dus k fy x ca t blu e re d wa ter col or"
RARE: Final = 6000

SEARCHES: Final[dict[str, HistoryFilter]] = {
    "a frequent word": HistoryFilter(terms=terms_of("portrait")),
    "two letters": HistoryFilter(terms=terms_of("po")),
    "one letter": HistoryFilter(terms=terms_of("a")),
    "each key of `lighthouse`, the fifth": HistoryFilter(terms=terms_of("light")),
    "a long frequent word": HistoryFilter(terms=terms_of("photorealistic")),
    "two frequent words": HistoryFilter(terms=terms_of("cinematic photo")),
    "four words": HistoryFilter(terms=terms_of("woman city night sea")),
    "a frequent and a rare word": HistoryFilter(terms=terms_of("portrait stormlight")),
    "a word of no prompt": HistoryFilter(terms=terms_of("zeppelin")),
    "a word and a rare model": HistoryFilter(terms=terms_of("sea"), model="rare"),
    "a word, pinned": HistoryFilter(terms=terms_of("sea"), pinned=True),
    "a word of one week": HistoryFilter(
        terms=terms_of("fox"), since=BORN + timedelta(days=30), until=BORN + timedelta(days=37)
    ),
}
OTHERS: Final[dict[str, HistoryFilter]] = {
    "pinned": HistoryFilter(pinned=True),
    "a rare model": HistoryFilter(model="rare"),
    "one day": HistoryFilter(since=BORN + timedelta(days=30), until=BORN + timedelta(days=31)),
}


def variations() -> Iterator[Variation]:
    """Always the same images."""
    drawn = random.Random(14)
    syllables = _SYLLABLES.split()
    rare = {"".join(drawn.choices(syllables, k=drawn.randint(2, 4))) for _ in range(RARE)}
    words = [*_FREQUENT.split(), *sorted(rare)]
    weights = list(accumulate(1 / (place + 3) for place in range(len(words))))
    while True:
        yield (
            ("prompt", " ".join(drawn.choices(words, cum_weights=weights, k=12))),
            ("owner", OWNER if drawn.random() < 0.5 else f"owner {drawn.randrange(1000)}"),
            ("model", "rare" if drawn.random() < 0.01 else drawn.choice(["sdxl", "flux"])),
            ("pinned", drawn.random() < 0.01),
        )


@asynccontextmanager
async def filled(url: str | None, kept: Path | None, size: int) -> AsyncIterator[Store]:
    """The store with its images, in a temporary SQLite file unless a URL or a file names another."""
    with tempfile.TemporaryDirectory(prefix="darkroom-search-") as folder:
        file = kept or Path(folder, "darkroom.db")
        if url is None and not file.exists():
            fill_store(file, size, varied=variations())
        async with open_store(url or f"sqlite:///{file}", timeout_s=600) as store:
            if url is not None:
                await insert(store, size)
            if url is None:
                report_progress(f"the file has {file.stat().st_size / size:,.0f} bytes an image")
            yield store


async def insert(store: Store, size: int) -> None:
    images = map(varied_image, range(size), variations())
    while some := list(islice(images, 20)):
        await asyncio.gather(*map(store.insert, some))


def varied_image(number: int, variation: Variation) -> Image:
    created_at = BORN + timedelta(seconds=20) * number
    image = an_image(Status.COMPLETED, created_at)
    return image.model_copy(update={"id": new_image_id(created_at), **dict(variation)})


async def timed_ms(
    store: Store, owner: str, where: HistoryFilter, after: HistoryPosition | None
) -> tuple[float, float]:
    """What the route does for a page: the time, and the CPU time of this process, which a busy machine changes less."""
    began, began_cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(
        store.history(owner, COMPLETED, limit=PAGE + 1, where=where, after=after),
        store.count_history(owner, COMPLETED, where=where, limit=COUNTED),
    )
    return (time.perf_counter() - began) * 1000, (time.process_time() - began_cpu) * 1000


def quantiles(times: list[tuple[float, float]]) -> dict[str, float]:
    kinds = zip(*times, strict=True)
    values = [percentile(each, share) for each in kinds for share in (0.5, 0.95)]
    return dict(zip(COLUMNS, values, strict=True))


async def main(size: int, rounds: int, url: str | None, kept: Path | None) -> None:
    began = time.perf_counter()
    table = Table(f"Search among {size:,} images", ("found", *COLUMNS), head="search")
    kind = "sqlite" if url is None else url.partition(":")[0]
    async with filled(url, kept, size) as store:
        report_progress(f"filled in {time.perf_counter() - began:.0f} s")
        middle = HistoryPosition(BORN + timedelta(seconds=10) * size, "")
        everything: list[tuple[float, float]] = []
        for name, where in [*SEARCHES.items(), *OTHERS.items()]:
            found = await store.count_history(OWNER, COMPLETED, where=where, limit=COUNTED)
            times = [
                await timed_ms(store, owner, where, after)
                for _ in range(rounds)
                for owner, after in ((OWNER, None), (OWNER, middle), ("owner 7", None))
            ]
            if name in SEARCHES:
                everything += times
            table.add(name, found=found, **quantiles(times))
        table.add("all searches", **quantiles(everything))
    found_p95 = {column: quantiles(everything)[column] for column in ("p95 ms", "p95 CPU ms")}
    report_progress(f"goal: p95 below {GOAL_MS} ms; {found_p95}")
    save_results(f"search-{kind}", [table], size=size, rounds=rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000, help="images, default 1,000,000")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument("--store", help="the URL of an empty store, instead of a temporary SQLite file")
    parser.add_argument("--file", type=Path, help="a SQLite file that is filled if it is missing, and kept")
    chosen = parser.parse_args()
    asyncio.run(main(chosen.size, chosen.rounds, chosen.store, chosen.file))
