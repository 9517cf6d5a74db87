"""Live events: resumed, deduplicated, and replaced by records where there is no websocket."""

import json

import pytest

from darkroom_client.effects import SocketClosed
from darkroom_client.errors import (
    ConnectionBroken,
    LimitReached,
    Redirected,
    ServerError,
    TlsFailed,
    Unauthorized,
    UnexpectedAnswer,
    Unreachable,
)
from darkroom_client.events import (
    Cancelled,
    Completed,
    Connected,
    Deleted,
    Failed,
    Gap,
    ModelsChanged,
    NoGenerator,
    Progress,
    Queued,
    QueuePositions,
    Started,
    parse_frame,
)
from darkroom_client.listening import Following, Listening
from darkroom_client.models import Image
from darkroom_client.retries import Retries


def hello(cursor: str) -> dict:
    return {"type": "hello", "cursor": cursor, "images": [], "more": 0}


def frame(kind: str, cursor: str, image_id: str = "a", **data) -> dict:
    return {
        "type": f"image.{kind}",
        "cursor": cursor,
        "subject": image_id,
        "time": "2026-11-22T12:00:00.000Z",
        "revision": 2,
        "attempt": 1,
        "data": {"id": image_id, "status": kind, **data},
    }


def take(world, listening, count: int) -> list:
    return [world.run(listening.next()) for _ in range(count)]


def test_it_resumes_after_the_last_cursor_on_any_replica(core, world):
    world.replies = [
        "socket", hello("1"), frame("completed", "2"), SocketClosed(1001),
        Unreachable("restarting"), ServerError("reads the log", status=503, retry_after_s=2),
        "socket", hello("2"), frame("completed", "3", "b"), SocketClosed(1013),
        "socket", SocketClosed(1006), ConnectionBroken("cut"),
        "socket", hello("3"), frame("failed", "4", "c"),
    ]  # fmt: skip
    listening = core.listening(None, hints=False)

    found = take(world, listening, 4)

    assert [type(event) for event in found] == [Connected, Completed, Completed, Failed]
    assert [event.cursor for event in found] == ["1", "2", "3", "4"]
    base = "wss://darkroom.example/ws"
    assert world.sockets == [base, *[f"{base}?after=2"] * 3, *[f"{base}?after=3"] * 3]
    assert all(pause < 10 for pause in world.pauses)


def test_each_final_event_is_shown_once(core, world):
    world.replies = [
        "socket", hello("1"), frame("completed", "2"), frame("completed", "3"), SocketClosed(1006),
        "socket", hello("3"), frame("completed", "4"), frame("cancelled", "5", "b"),
    ]  # fmt: skip

    found = take(world, core.listening("0", hints=False), 2)

    assert [(type(event), event.image_id) for event in found] == [(Completed, "a"), (Cancelled, "b")]


def test_a_gap_is_an_event(core, world, image):
    world.replies = [
        "socket",
        {**hello("9"), "type": "gap", "images": [image], "more": 3},
        SocketClosed(1006),
        "socket",
    ]
    listening = core.listening("1", hints=False)

    (gap,) = take(world, listening, 1)

    assert gap == Gap(cursor="9", images=(Image.model_validate(image),), more=3)
    world.replies += [hello("9"), frame("completed", "10")]
    take(world, listening, 1)
    assert world.sockets[-1].endswith("?after=9")


def test_hints_are_shown_if_they_are_asked_for(core, world):
    places = {"type": "places", "places": {"a": 3}, "estimated": ["a"], "estimatedSeconds": {"a": 1.5}}
    hints = [places, {"type": "models"}, {"type": "waiting", "waitingFor": {"a": "nobody"}}]
    world.replies = ["socket", hello("1"), *hints, {"type": "novelty"}, frame("queued", "2")] * 2

    shown = take(world, core.listening(None, hints=True), 5)
    assert shown[1:4] == [
        QueuePositions(positions={"a": 3}, estimated=frozenset("a"), estimated_seconds={"a": 1.5}),
        ModelsChanged(),
        NoGenerator(reasons={"a": "nobody"}),
    ]
    assert [type(event) for event in take(world, core.listening(None, hints=False), 2)] == [Connected, Queued]


@pytest.mark.parametrize(
    "error", [Unauthorized("no", status=401), TlsFailed("no"), UnexpectedAnswer("page", status=200)]
)
def test_what_does_not_pass_is_raised(core, world, error):
    world.replies = [error]

    with pytest.raises(type(error)):
        world.run(core.listening(None, hints=False).next())


def test_it_never_comes_back_earlier_than_it_is_asked_to(core, world):
    world.replies = [ServerError("busy", status=503, retry_after_s=20)] * 40 + ["socket", hello("1")]

    take(world, core.listening(None, hints=False), 1)

    assert len(world.pauses) == 40
    assert 20 <= min(world.pauses) < max(world.pauses) <= 30


def test_a_limit_of_websockets_passes(core, world):
    world.replies = [LimitReached("too many", status=429), "socket", hello("1")]

    take(world, core.listening(None, hints=False), 1)

    assert len(world.pauses) == 1


@pytest.mark.parametrize(
    "error",
    [
        ServerError("down for an hour", status=503, retry_after_s=61),
        LimitReached("for an hour", status=429, retry_after_s=61),
        LimitReached("never", status=429),
        Unreachable("never"),
    ],
)
def test_the_retries_of_the_client_count_for_events_too(core, world, error):
    never = (LimitReached, Unreachable) if "never" in str(error) else ()
    retries = Retries(longest_wait_s=60, never=never)
    world.replies = [error]

    with pytest.raises(type(error)):
        world.run(Listening(core.origin, retries, after=None, hints=False, handshake_s=1).next())


def test_an_empty_cursor_is_none(core, world):
    world.replies = ["socket", hello("1")]

    assert [type(event) for event in take(world, core.listening("", hints=False), 1)] == [Connected]
    assert world.sockets == ["wss://darkroom.example/ws"]


def test_a_credential_that_ends_is_an_error(core, world):
    world.replies = ["socket", hello("1"), SocketClosed(4401, "the token has expired")]
    listening = core.listening(None, hints=False)
    take(world, listening, 1)

    with pytest.raises(Unauthorized, match="the token has expired"):
        world.run(listening.next())


def follow(world, core, *images) -> list:
    following = Following(core.orders, [Image.model_validate(image) for image in images], now=lambda: world.now_s)
    found = []
    while (event := world.run(following.next())) is not None:
        found.append(event)
    return found


def test_a_handle_shows_each_state_once(core, world, image, done):
    progress = {"type": "image.progress", "subject": image["id"], "data": {"step": 1, "steps": 2, "preview": None}}
    queued, started = (
        frame("queued", "1", image["id"]),
        frame("started", "2", image["id"], status="running", attempts=1),
    )
    ended = frame("completed", "3", image["id"], attempts=1)
    world.replies = [
        "socket",
        hello("0"),
        (200, image),
        queued,
        started,
        progress,
        frame("failed", "3", "other"),
        ended,
    ]

    found = follow(world, core, image)

    assert [type(event) for event in found] == [Queued, Started, Progress, Completed]


def test_without_a_websocket_the_record_is_read(core, world, image, done):
    world.replies = [UnexpectedAnswer("404"), (200, image), (502, b""), Unreachable("no"), (200, image), "socket"]
    world.replies += [hello("0"), (200, done)]

    assert [type(event) for event in follow(world, core, image)] == [Queued, Completed]


def test_what_happened_before_the_websocket_is_read(core, world, image, done):
    world.replies = ["socket", hello("0"), (200, done)]

    assert [type(event) for event in follow(world, core, image)] == [Queued, Completed]


def test_events_of_others_do_not_put_the_read_off(core, world, image, done):
    def late(_effect):
        world.now_s += 1
        return frame("queued", "1", "other")

    world.replies = ["socket", hello("0"), (200, image), *[late] * 4, None, (200, done)]

    assert [type(event) for event in follow(world, core, image)] == [Queued, Completed]


def test_a_deleted_image_ends_its_events(core, world, image, problem):
    world.replies = ["socket", hello("0"), problem(404, "image_not_found")]

    assert follow(world, core, image)[1:] == [Deleted(image_id=image["id"], reason="image_not_found: because")]


@pytest.mark.parametrize("error", [TlsFailed("no"), Redirected("elsewhere", status=302)])
def test_an_address_that_is_wrong_ends_the_events_at_once(core, world, image, error):
    world.replies = [Unreachable("no websocket"), error]

    with pytest.raises(type(error)):
        follow(world, core, image)


def test_a_server_that_is_gone_ends_them_too(core, world, image):
    world.replies = [Unreachable("no")] * 200

    with pytest.raises(Unreachable):
        follow(world, core, image)

    assert 1060 < world.now_s < 1080


@pytest.mark.parametrize(
    "text",
    ["", "[", "[]", "null", "7", "{}", "[" * 99_999, '{"type": 7}', '{"type": "hello", "images": 7}',
     '{"type": "places"}', '{"type": "places", "places": [1]}', '{"type": "waiting", "waitingFor": 7}',
     '{"type": "image.completed", "subject": "a"}', '{"type": "image.completed", "subject": "../a", "data": {}}',
     '{"type": "image.progress", "subject": "a", "data": {"step": 1, "steps": 0}}',
     '{"type": "image.deleted", "subject": "a", "time": "soon"}', '{"type": "image.queued", "data": []}'],
)  # fmt: skip
def test_an_odd_frame_is_ignored(text):
    assert parse_frame(text) is None


def test_a_preview_is_bytes():
    data = {"step": 1, "steps": 2, "preview": "data:image/webp;base64,UklGRg=="}
    event = parse_frame(json.dumps({"type": "image.progress", "subject": "a", "data": data}))

    assert isinstance(event, Progress)
    assert event.preview == b"RIFF"
