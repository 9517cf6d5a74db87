"""The envelope, as an independent reader of CloudEvents understands it."""

import json
from datetime import timedelta

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from common.bus.handling import deduplication_key
from common.domain.errors import Invalid
from common.domain.images import parse_image_id
from common.domain.requests import GenerationRequest
from common.domain.views import ImagePresenter
from common.messages import CancelImage, GenerateImage, ImageChanged, ImageProgressed, Progress, Tick, decode, encode
from common.runtime.clock import ManualClock
from tests.making import NOON, an_image

MEDIA_URL, RETENTION = "/media/", timedelta(days=30)
A_PREVIEW = "data:image/webp;base64,UklGRg=="


def an_event(image):
    return ImageChanged(
        id=f"{image.id}.1",
        source="api",
        type="image.queued",
        subject=image.id,
        time=NOON,
        owner="local",
        revision=1,
        attempt=0,
        data=ImagePresenter(MEDIA_URL, RETENTION).view(image),
    )


def test_an_event_comes_back_as_it_was():
    event = an_event(an_image(prompt='a "quoted" sea 🌊'))

    assert decode(encode(event)) == event


def test_an_event_is_read_by_an_independent_reader():
    event = an_event(an_image())

    read = JSONFormat().read(CloudEvent, encode(event))

    assert (read.get_id(), read.get_type(), read.get_source()) == (event.id, "image.queued", "api")
    assert read.get_time() == NOON
    data = read.get_data()
    assert isinstance(data, dict)
    assert data["createdAt"] == "2025-01-15T12:00:00.000Z"


def test_an_order_of_another_service_carries_the_whole_request():
    clock = ManualClock()
    body = {
        "specversion": "1.0",
        "id": an_image().id,
        "source": "newsletter",
        "type": "image.generate",
        "time": "2025-01-15T12:00:00Z",
        "owner": "ada",
        "data": {"prompt": "a lighthouse", "cfg_scale": 5, "steps": 4},
    }

    command = decode(json.dumps(body).encode())

    assert isinstance(command, GenerateImage)
    assert command.data == GenerationRequest(prompt="a lighthouse", cfg_scale=5, steps=4)
    assert command.time == clock.now()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"type": "image.unheard"}',
        b"[" * 60_000,
        b'{"specversion":"1.0","id":"x","source":"y","type":"image.generate","time":"now","data":{}}',
    ],
)
def test_what_is_no_message_is_refused(body):
    with pytest.raises(Invalid):
        decode(body)


def test_a_tick_takes_no_field_that_it_does_not_know():
    tick = Tick(id="1", source="cli", type="timer.purge", time=NOON)
    body = json.loads(encode(tick)) | {"data": {"olderThen": 3}}

    with pytest.raises(Invalid):
        decode(json.dumps(body).encode())


@pytest.mark.parametrize(
    "change", [{"token": 1}, {"token": "yes"}, {"data": {"dryRun": 0}}, {"data": {"olderThan": 1e999}}], ids=str
)
def test_the_options_of_a_tick_are_of_their_types(change):
    """A run that was to be tried only must not remove anything, and an operator's tick is not the timer's."""
    tick = Tick(id="1", source="cli", type="timer.purge", time=NOON)

    with pytest.raises(Invalid):
        decode(json.dumps(json.loads(encode(tick)) | change).encode())


def a_progress(**fields):
    data = Progress(id="an id", step=1, steps=4, seconds_left=None, **fields)
    return ImageProgressed(
        id="1", source="generator", subject=data.id, time=NOON, owner="local", revision=2, attempt=1, data=data
    )


def test_the_preview_of_a_progress_event_is_optional():
    body = json.loads(encode(a_progress(preview=A_PREVIEW)))
    assert body["data"] == {"id": "an id", "step": 1, "steps": 4, "secondsLeft": None, "preview": A_PREVIEW}
    assert decode(json.dumps(body).encode()) == a_progress(preview=A_PREVIEW)

    del body["data"]["preview"]
    assert decode(json.dumps(body).encode()) == a_progress()


@pytest.mark.parametrize(
    "preview",
    [
        "",
        "https://example.org/tracker.png",
        "javascript:alert(1)",
        "data:text/html;base64,PHNjcmlwdD4=",
        "data:image/svg+xml;base64,PHN2Zz4=",
        A_PREVIEW + '" onload="alert(1)',
        A_PREVIEW + "\n",
        A_PREVIEW[:-2] + "A" * 22_000,
    ],
)
def test_a_preview_must_be_a_small_picture_in_a_data_url(preview):
    body = json.loads(encode(a_progress(preview=A_PREVIEW)))
    body["data"]["preview"] = preview

    with pytest.raises(Invalid):
        decode(json.dumps(body).encode())


def test_the_view_of_a_queued_image_has_null_for_missing_values():
    """An image as it was just requested, without anything that comes later."""
    image = an_image()

    shown = ImagePresenter(MEDIA_URL, RETENTION).view(image).model_dump(mode="json", by_alias=True)

    assert shown == {
        "id": image.id,
        "status": "queued",
        "prompt": "a lighthouse",
        "negativePrompt": "",
        "modelUsed": "sdxl",
        "width": 64,
        "height": 64,
        "parameters": {"steps": 4, "cfgScale": 7.5, "sampler": "Euler", "seed": 7, "hiresFix": False},
        "imageUrl": None,
        "thumbnailUrl": None,
        "format": None,
        "fileSize": None,
        "generationTime": None,
        "attempts": 0,
        "failures": 0,
        "error": None,
        "pinned": False,
        "createdAt": "2025-01-15T12:00:00.000Z",
        "dispatchedAt": None,
        "waitingSince": None,
        "startedAt": None,
        "finishedAt": None,
        "retryAt": None,
        "expiresAt": "2025-02-14T12:00:00.000Z",
    }


def decoded(body: bytes) -> GenerateImage | CancelImage:
    message = decode(body)
    assert isinstance(message, GenerateImage | CancelImage)
    return message


def an_order(**fields) -> bytes:
    """An order as another service writes it; a field of None is left out."""
    order = {
        "specversion": "1.0",
        "id": "0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b",
        "source": "newsletter",
        "type": "image.generate",
        "owner": "ada",
        "data": {"prompt": "a lighthouse"},
    }
    return json.dumps({name: value for name, value in (order | fields).items() if value is not ...}).encode()


@pytest.mark.border(rule="A7")
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"time": None},
        {"time": "2026-11-22T12:00:00Z"},
        {"time": "2026-11-22t12:00:00.123456789+05:30"},
        {"datacontenttype": "application/json; charset=utf-8"},
        {"datacontenttype": 'Application/JSON;Charset="UTF-8"'},
        {"datacontenttype": "application/vnd.shop.order+json"},
        {"datacontenttype": None},
        {"subject": "the newsletter of May", "dataschema": "https://shop/schema", "partitionkey": "7"},
        {"subject": None, "traceparent": None},
        {"traceparent": "not a trace parent\r\n"},
        {"comexampleextension": {"not": "flat"}},
    ],
    ids=repr,
)
def test_what_cloudevents_allows_is_accepted(fields):
    order = decoded(an_order(**fields))

    assert (order.id, order.source, order.owner, order.data.model_dump()["prompt"]) == (
        "0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b",
        "newsletter",
        "ada",
        "a lighthouse",
    )
    assert order.traceparent is None
    assert (order.time is None) == (fields.get("time") is None)


@pytest.mark.border(rule="A7")
@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"datacontenttype": "text/plain"}, "datacontenttype"),
        ({"datacontenttype": "application/json; charset=utf-16"}, "datacontenttype"),
        ({"datacontenttype": 7}, "datacontenttype"),
        ({"specversion": "0.3"}, "specversion"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-11-22T12:00:00"}, "time"),
        ({"source": "a\r\nb"}, "source"),
        ({"source": "s" * 300}, "source"),
        ({"data": {"prompt": "a", "steps": 1e99}}, "steps"),
    ],
    ids=repr,
)
def test_a_refused_message_names_its_field(fields, name):
    with pytest.raises(Invalid, match=name):
        decode(an_order(**fields))


@pytest.mark.border(rule="A1")
@pytest.mark.parametrize("spelling", [str.upper, str.title, str.lower])
def test_an_id_in_capitals_is_made_canonical(spelling):
    image_id = "0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b"
    order = decoded(an_order(id=spelling(image_id)))
    cancel = decoded(an_order(type="image.cancel", id="1", subject=spelling(image_id), data={}))

    assert (order.id, cancel.subject) == (image_id, image_id)
    assert deduplication_key(order) == deduplication_key(cancel) == image_id


@pytest.mark.border(rule="A1")
@pytest.mark.parametrize("spelling", ["{%s}", "urn:uuid:%s", "%s ", "uuid %s"])
def test_no_other_spelling_of_an_id_is_half_accepted(spelling):
    """It is neither changed nor recorded: the handler refuses it, and the order becomes a dead letter."""
    written = spelling % "0193A1B2-7C3D-7E4F-8A5B-6C7D8E9F0A1B"

    assert decode(an_order(id=written)).id == written
    with pytest.raises(Invalid):
        parse_image_id(written)


@pytest.mark.border(rule="A1")
def test_orders_with_one_subject_are_several_orders():
    orders = [decoded(an_order(id=f"0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a{n:02d}", subject="may")) for n in range(10)]

    assert len({deduplication_key(order) for order in orders}) == 10
