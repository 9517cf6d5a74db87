"""Checks of a round with trouble from outside: the effects of foreign messages, the files left at once."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from common.bus.port import DeadLetter
from common.domain.images import Image, Status
from tests.cluster import ORDER
from tests.faults.foreign import FORGED, ForeignReport

UUID_LENGTH = 36
MARGIN = timedelta(seconds=10)  # an attempt may go on after its image is final, until its lease is gone
# Codes that an image of the api can only have if a foreign message has failed it.
FOREIGN_CODES = {FORGED, "invalid_request", "wrong_queue", "owner_missing", "undeliverable", "unknown_image"}

PROBE_ID = "00000000-0000-0000-0000-000000000000"  # of the file with which the media are probed, by any service


@dataclass(frozen=True)
class Death:
    """A process that did not end in order."""

    process: int
    at: datetime


def check_foreign(
    report: ForeignReport,
    records: Mapping[str, Image],
    letters: Collection[DeadLetter],
    *,
    requested: Collection[str],
    may_be_cancelled: Collection[str],
) -> list[str]:
    """Violations by foreign messages; `requested` are the images of the api's clients."""
    found = []
    for mark, kind in report.refused.items():
        matching = [letter for letter in letters if mark_in(letter, mark)]
        if not any(letter.reason.strip() for letter in matching):
            found.append(f"{mark} ({kind}) has {len(matching)} dead letters and no reason")
    allowed = {*may_be_cancelled, *report.may_be_cancelled}
    for image in records.values():
        # deleting an open image cancels it; who may delete is checked by the caller
        is_cancelled = image.status is Status.CANCELLED and image.deleted_at is None
        if is_cancelled and image.id.lower() not in allowed:
            found.append(f"{image.id} is cancelled, and only a stranger asked for it")
        if image.error is not None and image.id in requested and image.error.code in FOREIGN_CODES:
            found.append(f"{image.id} of a client was failed by a foreign message: {image.error.code}")
        if image.status is Status.COMPLETED and (image.width, image.height) != (ORDER["width"], ORDER["height"]):
            found.append(f"{image.id} is completed with {image.width} × {image.height} pixels")
    return found


def mark_in(letter: DeadLetter, mark: str) -> bool:
    """A mark is followed by something that is no digit, or by the end."""
    before, _, after = letter.body.partition(mark.encode())
    return before != letter.body and not after[:1].isdigit()


def files_left(
    files: Iterable[str],
    records: Mapping[str, Image],
    *,
    generators: Mapping[str, Collection[int]],
    deaths: Collection[Death],
    media_times: Collection[tuple[datetime, datetime]],
) -> list[str]:
    """Files that no record names, of images in whose life no generator died and no media failed.

    For these, nothing excuses the file: it is counted at once, not only after a sweep.
    """
    named = {
        key
        for image in records.values()
        if image.status is Status.COMPLETED and image.deleted_at is None
        for key in (image.image_file, image.thumbnail)
    }
    return [
        f"the file {file} was left, and no process of its image died"
        for file in sorted(set(files) - named)
        if not _is_excused(_image_of(file), records, generators, deaths, media_times)
    ]


def _image_of(file: str) -> str:
    return file.rpartition("/")[2].lstrip(".")[:UUID_LENGTH]


def _is_excused(
    image_id: str,
    records: Mapping[str, Image],
    generators: Mapping[str, Collection[int]],
    deaths: Collection[Death],
    media_times: Collection[tuple[datetime, datetime]],
) -> bool:
    died = [death.at for death in deaths if death.process in generators.get(image_id, ())]
    image = records.get(image_id)
    if image is None:
        return bool(died) or (image_id == PROBE_ID and bool(deaths))
    moments = [image.created_at, image.finished_at, image.deleted_at, image.tombstoned_at]
    end = max(moment for moment in moments if moment is not None) + MARGIN
    return any(image.created_at - MARGIN <= at <= end for at in died) or any(
        start <= end and image.created_at <= stop for start, stop in media_times
    )
