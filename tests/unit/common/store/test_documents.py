import json
from datetime import UTC, datetime, timedelta, timezone

import bson
import pytest
from bson.codec_options import CodecOptions
from hypothesis import given

from common.domain import transitions
from common.domain.errors import Unavailable
from common.domain.images import Batch, Failure, Format, Lease, PendingEvent, Status
from common.store.documents import (
    entry_document,
    image_document,
    image_text,
    parse_image,
    parse_time,
    read_entry,
    read_image,
    time_text,
)
from common.store.port import Entry
from tests.contract.store.values import records
from tests.making import NOON, an_image

SECOND = timedelta(seconds=1)


def in_bson(document):
    return bson.decode(bson.encode(document), CodecOptions(tz_aware=True, tzinfo=UTC))


def nulls(value) -> bool:
    if isinstance(value, dict):
        return any(map(nulls, value.values()))
    return value is None


def an_image_with_everything():
    return an_image(
        status=Status.RUNNING,
        not_before=NOON,
        lease=Lease(token="t", worker="w", until=NOON),
        error=Failure(code="c", detail="d"),
        image_file="i",
        thumbnail="t",
        format=Format.JPEG,
        file_size=9,
        generation_time=1.5,
        started_at=NOON,
        finished_at=NOON,
        deleted_at=NOON,
        tombstoned_at=NOON,
        slot="local:0",
        idempotency="local:k",
        request_hash="h",
        wanted_format=Format.PNG,
        waiting_since=NOON,
        dispatched_at=NOON,
        sent_at=NOON,
        pool="flux",
        backend="left",
        batch=Batch(id="b", index=1, count=4),
        batch_due=NOON,
        pending_event=PendingEvent(type="image.failed", revision=2, since=NOON),
        traceparent="00-a-b-01",
        webhook="https://hooks.example.org/",
    )


@given(image=records)
def test_an_image_is_read_from_both_forms_as_it_was_written(image):
    assert parse_image(image_text(image)) == image
    assert read_image(in_bson(image_document(image))) == image


@given(image=records)
def test_no_form_holds_a_null(image):
    assert not nulls(image_document(image))
    assert not nulls(json.loads(image_text(image)))


def test_a_document_is_the_image_with_index_fields():
    image = an_image(sent_at=NOON, status=Status.QUEUED)

    assert image_document(image) == {
        "_id": image.id,
        "id": image.id,
        "owner": "local",
        "prompt": "a lighthouse",
        "negative_prompt": "",
        "model": "sdxl",
        "width": 64,
        "height": 64,
        "parameters": {"steps": 4, "cfg_scale": 7.5, "sampler": "Euler", "seed": 7, "hires_fix": False},
        "status": "queued",
        "created_at": NOON,
        "source": "api",
        "revision": 1,
        "attempts": 0,
        "failures": 0,
        "lost": 0,
        "refused": 0,
        "pinned": False,
        "words": ["a", "lighthouse"],
        "sent_at": NOON,
        "shown": True,
        "waits_since": NOON,
    }


def test_the_values_of_a_document_are_plain():
    document = image_document(an_image_with_everything())

    assert {type(value) for value in document.values()} == {str, int, float, bool, dict, datetime}
    assert {type(value) for value in document["event_due"].values()} == {str, int, datetime}


def test_a_text_is_the_image_with_times_of_one_width():
    image = an_image_with_everything()

    text = image_text(image)

    assert json.loads(text) == image.model_dump(mode="json") | {
        **dict.fromkeys(
            [
                *("created_at", "not_before", "started_at", "finished_at", "deleted_at", "buried_at", "sent_at"),
                *("waiting_since", "dispatched_at", "batch_due"),
            ],
            "2025-01-15T12:00:00.000Z",
        ),
        "lease": {"token": "t", "worker": "w", "until": "2025-01-15T12:00:00.000Z"},
        "event_due": {"type": "image.failed", "revision": 2, "since": "2025-01-15T12:00:00.000Z"},
    }


@pytest.mark.parametrize(
    ("fields", "is_answered"),
    [
        ({"sent_at": NOON, "started_at": NOON}, True),
        ({"sent_at": NOON, "started_at": NOON + SECOND}, True),
        ({"sent_at": NOON + SECOND, "started_at": NOON}, False),
        ({"sent_at": NOON}, False),
        ({"started_at": NOON}, False),
    ],
)
def test_a_document_marks_what_a_worker_has_answered(fields, is_answered):
    document = image_document(an_image(**fields))

    assert document.get("started_sent_at") == (fields["sent_at"] if is_answered else None)


def test_a_deleted_document_is_not_shown():
    assert "shown" not in image_document(transitions.delete(an_image(), now=NOON))


def test_times_are_in_utc_and_whole_milliseconds():
    moment = datetime(2025, 1, 15, 13, 0, 0, 1999, tzinfo=timezone(timedelta(hours=1)))
    image = an_image(created_at=moment)

    assert image_document(image)["created_at"] == NOON + timedelta(milliseconds=1)
    assert '"created_at":"2025-01-15T12:00:00.001Z"' in image_text(image)


def test_the_text_of_a_time_sorts_like_time():
    moments = [NOON + timedelta(milliseconds=n) for n in (0, 1, 10, 999, 1000)]
    texts = [time_text(moment) for moment in moments]

    assert texts == sorted(texts)
    assert [parse_time(text) for text in texts] == moments


def test_an_unknown_field_is_ignored():
    image = an_image(lease=Lease(token="t", worker="w", until=NOON))
    document = image_document(image) | {"colour": "red"}
    document["lease"]["colour"] = "red"
    text = image_text(image)[:-1] + ',"colour":"red"}'

    assert (read_image(document), parse_image(text)) == (image, image)


def test_an_unreadable_record_is_reported_without_its_values():
    image = an_image(prompt="a secret")
    document = image_document(image)
    document["prompt"] = ["a secret"]

    with pytest.raises(Unavailable) as of_document:
        read_image(document)
    with pytest.raises(Unavailable) as of_text:
        parse_image(image_text(image).replace('"a secret"', '["a secret"]'))

    for refused in (of_document, of_text):
        assert image.id in refused.value.detail
        assert "prompt" in refused.value.detail
        assert "secret" not in refused.value.detail


def test_a_value_that_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        image_text(an_image(generation_time=float("nan")))


def test_an_entry_is_read_as_it_was_written():
    entry = Entry("quota", "local", 3, {"times": [1, 2.5]}, expires_at=NOON)

    assert entry_document(entry)["_id"] == "quota:local"
    assert read_entry(in_bson(entry_document(entry))) == entry
    assert "expires_at" not in entry_document(Entry("quota", "local", 1, {}))
