"""The checks of a round with trouble from outside find what they are for."""

from datetime import timedelta

from common.bus.port import DeadLetter
from common.domain.images import Failure, Status
from tests.faults.foreign import FORGED, ForeignReport
from tests.faults.outside_checks import Death, check_foreign, files_left
from tests.making import NOON, an_image

DONE = an_image(status=Status.CANCELLED, finished_at=NOON + timedelta(seconds=2))
FILE = f"generated_images/2025/01/{DONE.id}.png"
PART = f"thumbnails/2025/01/.{DONE.id}.png.0123456789abcdef.part"


def left(files, *, deaths=(), media_times=()):
    return files_left(
        files, {DONE.id: DONE}, generators={DONE.id: {7}}, deaths=deaths, media_times=media_times
    )  # fmt: skip


def checked(report, *images, letters=(), requested=(), may_be_cancelled=()):
    records = {image.id: image for image in images}
    return check_foreign(report, records, letters, requested=requested, may_be_cancelled=may_be_cancelled)


def test_a_file_of_an_undisturbed_image_is_found():
    assert len(left([FILE, PART])) == 2


def test_a_named_file_is_none():
    image = an_image(status=Status.COMPLETED, image_file=FILE, thumbnail="thumbnails/2025/01/x.png")

    assert files_left([FILE], {image.id: image}, generators={}, deaths=(), media_times=()) == []


def test_a_death_in_the_life_of_the_image_excuses_its_file():
    during, later = NOON + timedelta(seconds=1), NOON + timedelta(minutes=1)

    assert left([FILE], deaths=[Death(7, during)]) == []
    assert len(left([FILE], deaths=[Death(8, during), Death(7, later)])) == 1


def test_media_that_failed_meanwhile_excuse_a_file():
    start = NOON + timedelta(seconds=1)

    assert left([FILE], media_times=[(start, start + timedelta(seconds=1))]) == []


def test_a_refused_message_needs_a_dead_letter_with_a_reason():
    report = ForeignReport(refused={"unwanted-1": "malformed", "unwanted-2": "malformed"})
    others = DeadLetter(id="a", body=b"unwanted-11", reason="x", queue="image.generate", died_at=None)
    silent = DeadLetter(id="b", body=b"unwanted-2", reason=" ", queue="image.generate", died_at=None)
    good = DeadLetter(id="c", body=b'{"mark": "unwanted-1"}', reason="x", queue="image.generate", died_at=None)

    assert len(checked(report, letters=[others, silent])) == 2
    assert len(checked(report, letters=[others, silent, good])) == 1


def test_what_strangers_did_to_images_is_found():
    failed = an_image(status=Status.FAILED, error=Failure(code=FORGED, detail="forged"))

    assert len(checked(ForeignReport(), DONE)) == 1
    assert checked(ForeignReport(), DONE, may_be_cancelled={DONE.id}) == []
    assert len(checked(ForeignReport(), failed, requested={failed.id})) == 1
    assert len(checked(ForeignReport(), an_image(status=Status.COMPLETED, width=72))) == 1
