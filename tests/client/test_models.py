"""The models of the client library have one source with those of the server."""

import json
from datetime import timedelta

import pytest
from pydantic import TypeAdapter

from common import messages as server
from common.domain import transitions
from common.domain.images import Format, Lease, Picture
from common.domain.requests import GenerationRequest
from common.domain.views import ImagePresenter
from common.runtime.clock import SystemClock
from darkroom_client import messages
from darkroom_client.bus.publisher import encode
from scripts.client_models import BUS, PACKAGE, SOURCES
from tests.making import an_event_factory, an_image


@pytest.mark.parametrize("name", SOURCES)
def test_the_models_are_those_of_the_server(name):
    assert (PACKAGE / name).read_text() == SOURCES[name](), "run make client-models"


def fields(schema: dict) -> dict[str, object]:
    """Names with types, of an object's schema."""
    return {name: _type(found) for name, found in schema["properties"].items()}


def _type(schema: dict) -> object:
    if "anyOf" in schema:
        return sorted(str(_type(each)) for each in schema["anyOf"])
    if "$ref" in schema:
        return "object"
    return schema.get("const") or schema.get("enum") or schema.get("type")


@pytest.mark.parametrize("model", BUS)
def test_each_message_has_the_same_fields(model):
    ours = getattr(messages, {"NoData": "Nothing", "CancelData": "Cancel", "RequestRefused": "OrderRefused"}.get(
        model.__name__, model.__name__))  # fmt: skip

    mine = fields(TypeAdapter(ours).json_schema(by_alias=True))
    theirs = fields(TypeAdapter(model).json_schema(by_alias=True, mode="serialization"))

    assert mine.keys() == theirs.keys()
    # an enum of the server is a reference here and there; a time is a text in JSON
    assert {name for name in mine if mine[name] != theirs[name]} <= {"status"}


def test_what_the_server_publishes_is_read():
    clock = SystemClock()
    now, events = clock.now(), an_event_factory(clock, source="test")
    image = an_image(created_at=now)
    lease = Lease(token="t", worker="w", until=now)
    running = transitions.claim(image, lease=lease, now=now, deadline=timedelta(minutes=5))
    picture = Picture(
        image_file="f", thumbnail="t", format=Format.PNG, file_size=1, width=1, height=1, generation_time=1
    )
    done = transitions.complete(running, lease=lease, attempt=1, picture=picture, now=now)
    sent = [
        events.changed(image, "image.queued"),
        events.progressed(running, step=1, steps=2, seconds_left=None),
        events.changed(done, "image.completed"),
    ]

    read = [TypeAdapter(messages.BusEvent).validate_json(server.encode(event)) for event in sent]

    view = ImagePresenter(media_url="/media/", retention=None).view(done)
    assert [type(event).__name__ for event in read] == ["ImageChanged", "ImageProgressed", "ImageChanged"]
    for ours, theirs in zip(read, sent, strict=True):
        whole = json.loads(ours.model_dump_json(by_alias=True))
        assert {name: whole[name] for name in ("id", "type", "subject", "owner", "revision", "attempt")} == {
            name: getattr(theirs, name) for name in ("id", "type", "subject", "owner", "revision", "attempt")
        }
    assert isinstance(read[2], messages.ImageChanged)
    assert read[2].data.id == view.id


def test_what_the_client_publishes_is_read_by_the_server():
    order = messages.GenerateImage(
        id="0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b",
        source="newsletter",
        owner="ada",
        data=messages.GenerationRequest(prompt="a lighthouse", width=64, num_images=3),
    )
    cancel = messages.CancelImage(id="1", source="newsletter", subject=order.id, data=messages.Cancel(batch=True))

    read = [server.decode(encode(each)) for each in (order, cancel)]

    assert isinstance(read[0], server.GenerateImage)
    assert read[0].data == GenerationRequest(prompt="a lighthouse", width=64, num_images=3)
    assert isinstance(read[1], server.CancelImage)
    assert (read[1].subject, read[1].data.batch) == (order.id, True)
