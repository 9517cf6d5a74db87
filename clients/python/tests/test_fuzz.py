"""Whatever a server sends, the library raises its own errors only."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom_client.answers import read_images, read_model, retry_after_s
from darkroom_client.effects import Answer
from darkroom_client.errors import ApiError, DarkroomError
from darkroom_client.events import parse_frame
from darkroom_client.models import HistoryPage, Limits, Offers
from darkroom_client.retries import Retries

NAMES = st.sampled_from(
    [
        "id",
        "status",
        "image",
        "images",
        "error",
        "code",
        "detail",
        "fields",
        "type",
        "data",
        "subject",
        "cursor",
        "time",
        "revision",
        "attempt",
        "step",
        "steps",
        "preview",
        "more",
        "places",
        "estimated",
        "waitingFor",
        "batch",
        "index",
        "imageUrl",
        "createdAt",
        "parameters",
        "models",
        "hourly",
        "imageStatus",
    ]
)
TEXTS = st.sampled_from(
    ["a", "queued", "completed", "hello", "gap", "places", "waiting", "models", "image.queued", "image.completed",
     "image.progress", "image.deleted", "2026-11-22T12:00:00Z", "", "\ud800", "9" * 400]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.text(max_size=3)
VALUES = st.recursive(
    LEAVES, lambda each: st.lists(each, max_size=3) | st.dictionaries(NAMES, each, max_size=6), max_leaves=12
)
BODIES = VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20)
STATUSES = st.sampled_from([200, 202, 301, 400, 404, 409, 429, 500, 502, 503])


def raised(read, answer: Answer) -> DarkroomError | None:
    try:
        read(answer)
    except DarkroomError as error:
        return error
    return None


@settings(max_examples=60, deadline=None)
@given(BODIES, STATUSES, st.text(max_size=5))
def test_any_answer_is_read_or_an_error_of_this_library(body, status, after):
    answer = Answer("http://a/b", status, {"content-type": "application/json", "retry-after": after}, body)

    for read in (read_images, lambda each: [read_model(each, model, "x") for model in (HistoryPage, Offers, Limits)]):
        error = raised(read, answer)
        assert error is None or str(error)
        assert error is None or (Retries().pause_s(0, error) or 0) < 100
        assert not isinstance(error, ApiError) or error.status == status


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_any_frame_is_an_event_or_nothing(frame):
    parse_frame(json.dumps(frame))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40) | st.sampled_from(["Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 99999 07:28:00 -9999"]))
def test_any_retry_after_is_a_time_or_nothing(text):
    assert 0 <= (retry_after_s(text) or 0) <= 10_000_000
