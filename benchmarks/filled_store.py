"""Stores and media filled with past images by SQL, unsynced: much faster than by the services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice, repeat
from pathlib import Path

from common.domain.images import Format, Image, Parameters, Status, image_key, new_image_id, thumbnail_key
from common.store import sqlite_schema
from common.store.documents import image_text, time_text
from common.store.sqlite_writes import index_page

OWNER = "local"
BATCH = 10_000
BORN = datetime(2024, 1, 1, tzinfo=UTC)
_STEP = timedelta(seconds=20)  # 10^6 of them end some 230 days later, still in the past


Variation = tuple[tuple[str, str | bool | int], ...]  # fields of an image that differ from those of the others


def an_image(status: Status, created_at: datetime) -> Image:
    """A record as the services leave it."""
    image = Image(
        id=new_image_id(created_at),
        owner=OWNER,
        prompt="a lighthouse at dusk, a stormy sea, seen from the cliffs, oil on canvas",
        negative_prompt="people, text",
        model="sdxl",
        width=1024,
        height=1024,
        parameters=Parameters(steps=30, cfg_scale=7.5, sampler="Euler", seed=7, hires_fix=False),
        status=status,
        created_at=created_at,
        source="api",
        sent_at=created_at,
    )
    if status is Status.QUEUED:
        return image
    picture = image.model_copy(update={"attempts": 1})
    return picture.model_copy(
        update={
            "started_at": created_at + timedelta(seconds=1),
            "finished_at": created_at + timedelta(seconds=9),
            "image_file": image_key(picture, Format.PNG),
            "thumbnail": thumbnail_key(picture, Format.PNG),
            "format": Format.PNG,
            "file_size": 1_319_519,
            "generation_time": 8.012,
            "revision": 5,
        }
    )


def fill_store(
    file: Path,
    count: int,
    *,
    status: Status = Status.COMPLETED,
    born: datetime = BORN,
    varied: Iterator[Variation] | None = None,
) -> list[str]:
    """Add `count` images, each with the next variation; returns their ids, oldest first."""
    with closing(sqlite_schema.connect(file, readers=0, timeout_s=5)[0]) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -262144")
        ids: list[str] = []
        texts = _texts(status, born, varied or repeat(()))
        while rows := list(islice(texts, min(BATCH, count - len(ids)))):
            connection.execute("BEGIN")
            (before,) = connection.execute(
                "SELECT coalesce(max(id), '') FROM images WHERE id < ?", (rows[0][0],)
            ).fetchone()
            connection.executemany("INSERT INTO images (id, document) VALUES (?, ?)", rows)
            index_page(connection, after_id=before, limit=len(rows))
            connection.execute("COMMIT")
            ids.extend(row[0] for row in rows)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return ids


def _texts(status: Status, born: datetime, varied: Iterator[Variation]) -> Iterator[tuple[str, str]]:
    """One document repeated with another id and time: validating a million documents would take a minute."""
    model = an_image(status, born)
    text, born_text, month = image_text(model), time_text(born), f"{born:%Y/%m}"
    for number, variation in enumerate(varied):
        created_at = born + number * _STEP
        image_id = new_image_id(created_at)
        changed = text.replace(model.id, image_id).replace(born_text, time_text(created_at))
        for name, value in variation:
            changed = changed.replace(_json(name, getattr(model, name)), _json(name, value), 1)
        yield image_id, changed.replace(f"/{month}/", f"/{created_at:%Y/%m}/")


def _json(name: str, value: str | bool | int) -> str:
    return f'"{name}":{json.dumps(value, ensure_ascii=False)}'


def fill_media(root: Path, store_file: Path, *, size: int = 4096) -> list[Path]:
    """Write both files of every completed image in the store, `size` bytes each, unsynced; returns their paths."""
    content = b"\0" * size
    files = []
    with closing(sqlite_schema.connect(store_file, readers=0, timeout_s=5)[0]) as connection:
        query = "SELECT document ->> '$.image_file', document ->> '$.thumbnail' FROM images"
        keys = [key for row in connection.execute(query) for key in row]
    made: set[Path] = set()
    for key in keys:
        file = root / key
        if file.parent not in made:
            file.parent.mkdir(parents=True, exist_ok=True)
            made.add(file.parent)
        file.write_bytes(content)
        files.append(file)
    return files
