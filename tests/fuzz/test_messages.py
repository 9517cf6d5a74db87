"""Bytes, properties and headers from the bus: only documented errors are raised; what is taken can be used."""

import asyncio
import decimal
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiormq.abc import DeliveredMessage
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import encode as pamqp_encode
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from common.bus.handling import MAX_BODY, deduplication_key, encode_body, parse_event, parse_work_message
from common.bus.port import Done, Reject, Retry, WorkQueue
from common.bus.rabbitmq.codec import Delivery, amqp_copy, dead_letter_headers, expired_at, parse_dead_letter
from common.domain.errors import Invalid, Unavailable
from common.domain.images import new_image_id
from common.messages import CancelImage, GenerateImage, ImageDeleted, Tick, decode
from common.runtime.clock import whole_ms
from common.store.documents import image_text, parse_image
from services.janitor.cancel import cancel
from services.janitor.dead_letters import fail_dead_letter
from tests.fuzz.budget import LIMIT_S, fuzzed
from tests.fuzz.json_trees import ODD_TEXTS, ODD_TIMES, damaged, nearly
from tests.making import NOON, an_event_factory, an_image
from tests.unit.janitor.support import cluster, inserted

pytestmark = pytest.mark.timeout(LIMIT_S)

ID = "01945e8c-7d00-7000-8000-000000000001"
ENVELOPE: dict[str, Any] = {
    "specversion": "1.0",
    "id": ID,
    "source": "newsletter",
    "time": "2025-01-15T12:00:00.000Z",
    "datacontenttype": "application/json",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
ORDER = {**ENVELOPE, "type": "image.generate", "owner": "ada", "data": {"prompt": "a lighthouse", "width": 64}}
CANCEL = {**ENVELOPE, "type": "image.cancel", "subject": ID, "data": {}}
TICK = {**ENVELOPE, "type": "timer.purge", "token": False, "data": {"olderThan": 86400, "dryRun": True}}
DELETED = {**ENVELOPE, "type": "image.deleted", "subject": ID, "owner": "ada", "revision": 3, "attempt": 1}
EVENTS = [
    {**DELETED, "data": {"id": ID}},
    {**DELETED, "type": "image.progress", "data": {"id": ID, "step": 1, "steps": 2, "secondsLeft": None}},
    {**DELETED, "type": "image.failed", "data": {"id": ID, "status": "failed", "error": {"code": "x", "detail": "y"}}},
]
bodies = st.one_of(st.binary(max_size=200), nearly(ORDER, CANCEL, TICK, *EVENTS))

# What AMQP 0-9-1 tables hold, as pamqp reads it.
table_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.sampled_from(
            [*(text for text in ODD_TEXTS if text != "\ud800"), b"\xff\xfe", None, True, decimal.Decimal("1e20")]
        ),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.binary(max_size=10),
        st.datetimes(timezones=st.sampled_from([UTC, None])),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
times = st.sampled_from(ODD_TIMES) | table_values
deaths = st.lists(
    st.fixed_dictionaries({}, optional={"reason": table_values, "queue": table_values, "time": times}) | table_values,
    max_size=2,
)
headers = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("reason", "queue", "failures", "traceparent", "other", "x-delivery-count"), table_values),
        "died-at": times,
        "x-death": deaths | table_values,
    },
)
properties = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from(["", "a", "x" * 255, "é" * 127, "\0", "image.generate"])
        for name in ("content_type", "message_id", "message_type", "correlation_id", "app_id")
    }
    | {"timestamp": st.sampled_from([datetime(1970, 1, 1, tzinfo=UTC), NOON, datetime(9999, 12, 31, tzinfo=UTC)])},
)


def delivered(body: bytes, table: dict, more: dict | None = None) -> Delivery:
    """A delivery with these headers and properties, whose channel sends nothing."""
    channel: Any = SimpleNamespace(is_closed=False)
    header = ContentHeader(body_size=len(body), properties=Basic.Properties(headers=table, **(more or {})))
    raw = DeliveredMessage(delivery=Basic.Deliver(delivery_tag=1), header=header, body=body, channel=channel)
    return Delivery(raw)


@pytest.mark.border(rule="A5")
@fuzzed(120)
@given(body=bodies)
@example(body=json.dumps({**ORDER, "time": "0001-01-01T00:00:00+23:59"}).encode())
@example(body=json.dumps({**ORDER, "time": "0001-01-01T00:00:00Z"}).encode())
@example(body=json.dumps({**ORDER, "time": "2025-01-15T14:00:00+02:00"}).encode())
def test_decode_raises_only_invalid(body):
    """A message that is taken is published again sooner or later: as an event, as a retry, as a record's fields."""
    try:
        message = decode(body)
    except Invalid as error:
        refused_with = error.detail
        refused_with.encode()
        assert len(refused_with) <= 1000
        return
    if len(body) < MAX_BODY // 2:  # one of full size may grow over the limit
        again = decode(encode_body(message))
        assert (again.type, again.id, again.subject) == (message.type, message.id, message.subject)
        assert again.time == (message.time and whole_ms(message.time))


@pytest.mark.border(rule="A5")
@fuzzed(80)
@given(body=bodies, queue=st.sampled_from(WorkQueue))
def test_the_parsers_of_the_consumers_raise_only_invalid(body, queue):
    parse_event(body)
    try:
        message = parse_work_message(queue, body)
    except Invalid:
        return
    assert isinstance(message, GenerateImage | CancelImage | Tick)
    assert deduplication_key(message)


@pytest.mark.border(rule="A5")
@fuzzed(80)
@given(body=bodies, table=headers)
@example(body=b"", table={"reason": "x", "died-at": "2025-01-15T12:00:00"})
@example(body=b"", table={"reason": "x", "died-at": "0001-01-01T00:00:00+23:59"})
@example(body=b"", table={"failures": -(2**31)})
def test_each_dead_letter_is_read_and_dated_usably(body, table):
    """Operators sort letters by their time, and the janitor computes with it."""
    delivery = delivered(body, table)
    letter = parse_dead_letter(delivery, "")

    assert isinstance(letter.reason, str)
    assert isinstance(letter.queue, str)
    (letter.reason + letter.queue).encode()
    for moment in (letter.died_at, expired_at(delivery)):
        if moment is not None:
            assert moment.tzinfo is not None, f"{moment} cannot be compared with other times"
            assert moment - NOON is not None
            moment.astimezone(UTC)
    assert delivery.failures >= 0


@pytest.mark.border(rule="A5")
@fuzzed(80)
@given(body=st.binary(max_size=20), table=headers, more=properties)
@example(body=b"", table={"other": 1e300}, more={})
def test_each_message_can_be_published_again(body, table, more):
    """A retry and a dead letter are copies: one that cannot be written keeps its original unacknowledged."""
    copy = amqp_copy(delivered(body, table, more), dead_letter_headers("why", "queue", NOON))

    pamqp_encode.field_table(copy.properties.headers or {})
    copy.properties.marshal()


@pytest.fixture
def janitor(tmp_path):
    """Runs a coroutine function with a janitor that has one open image; one for all examples of a test."""
    with asyncio.Runner() as runner:
        opened = cluster(tmp_path)
        context = runner.run(opened.__aenter__())
        runner.run(inserted(context, id=ID))
        yield lambda act: runner.run(act(context))
        runner.run(opened.__aexit__(None, None, None))


@pytest.mark.border(rule="A5")
def test_the_janitor_survives_each_dead_letter(janitor):
    """Each has an outcome: an exception would repeat the letter twenty times."""

    @fuzzed(40)
    @given(body=st.just(json.dumps(ORDER).encode()) | bodies, table=headers)
    @example(body=json.dumps(ORDER).encode(), table={"reason": "x", "died-at": "2025-01-15T12:00:00"})
    @example(body=json.dumps(ORDER).encode(), table={"reason": "x", "died-at": "9999-12-31T23:59:59Z"})
    def each(body, table):
        letter = parse_dead_letter(delivered(body, table), "")
        outcome = janitor(lambda context: fail_dead_letter(letter, context=context))
        assert isinstance(outcome, Done | Retry | Reject)

    each()


@pytest.mark.border(rule="A5")
def test_the_janitor_survives_each_cancel(janitor):
    @fuzzed(40)
    @given(body=nearly(CANCEL))
    def each(body):
        try:
            command = parse_work_message(WorkQueue.CANCEL, body)
        except Invalid:
            return
        outcome = janitor(lambda context: cancel(command, context=context))
        assert isinstance(outcome, Done | Retry | Reject)

    each()


@fuzzed(80)
@given(text=nearly(json.loads(image_text(an_image(id=ID)))).map(lambda body: body.decode(errors="replace")))
def test_a_record_of_any_fields_is_read_or_refused(text):
    """A record of another version is data from outside as well."""
    with suppress(Unavailable):
        parse_image(text)


@fuzzed(30)
@given(body=damaged(json.dumps(EVENTS[0]).encode()))
def test_an_event_is_read_or_ignored(body):
    found = parse_event(body)

    assert found is None or isinstance(found, ImageDeleted)


def test_an_order_of_the_longest_allowed_texts_can_be_told():
    """What is taken can be told: two prompts of the full length fit into the event about them."""
    now = NOON + timedelta(seconds=1)
    image = an_image(id=new_image_id(now), prompt="\U0001f600" * 4000, negative_prompt='"' * 4000)

    class Fixed:
        def now(self):
            return now

    encode_body(an_event_factory(Fixed()).changed(image, "image.queued"))
