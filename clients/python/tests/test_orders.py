"""Orders: sent again with the same key, waited for, and how they fail."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from darkroom_client.errors import (
    ConnectionBroken,
    ImageCancelled,
    ImageFailed,
    InvalidRequest,
    LimitReached,
    Redirected,
    ServerError,
    StillWaiting,
    TlsFailed,
    UnexpectedAnswer,
    Unreachable,
)
from darkroom_client.orders import Order, any_completed, picked


def order(**options) -> Order:
    return Order.of("a lighthouse", options, num_images=1, key=None)


def test_a_lost_answer_is_asked_for_with_the_same_key(core, world, image):
    world.replies = [Unreachable("no"), ConnectionBroken("cut"), (502, b"<html>"), (202, image)]

    (found,) = world.run(core.orders.submit(order(width=64)))

    assert found.id == image["id"]
    assert world.pauses == [1, 2, 4]
    assert len({request.headers["Idempotency-Key"] for request in world.sent}) == 1
    assert {request.headers["Prefer"] for request in world.sent} == {"respond-async"}
    assert [json.loads(request.content or b"") for request in world.sent] == [
        {"prompt": "a lighthouse", "width": 64}
    ] * 4


def test_two_orders_have_two_keys():
    assert order().key != order().key


def test_after_the_last_delay_the_error_is_raised(core, world):
    world.replies = [ConnectionBroken("cut")] * 4

    with pytest.raises(ConnectionBroken):
        world.run(core.orders.submit(order()))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422, 501])
def test_an_order_that_is_refused_is_not_sent_again(core, world, problem, status):
    world.replies = [problem(status, "no", fields={"width": "odd"})]

    with pytest.raises(Exception, match="no: because") as caught:
        world.run(core.orders.submit(order()))

    assert caught.value.status == status
    assert caught.value.fields == {"width": "odd"}
    assert isinstance(caught.value, InvalidRequest) == (status in {400, 413, 422})


def test_retry_after_makes_a_pause_longer_but_never_shorter(core, world, problem, image):
    world.replies = [
        problem(429, "limit_reached", after="7"),
        problem(503, "unavailable", after="1"),
        problem(503, "unavailable"),
        (202, image),
    ]

    world.run(core.orders.submit(order()))

    assert world.pauses == [7, 2, 4]


def test_retry_after_may_be_a_date(core, world, problem, image):
    in_30_s = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    world.replies = [problem(503, "unavailable", after=in_30_s), (202, image)]

    world.run(core.orders.submit(order()))

    assert 25 < world.pauses[0] <= 30


@pytest.mark.parametrize("after", ["61", "999999999999999999", None])
def test_a_limit_that_lasts_is_raised_at_once(core, world, problem, after):
    world.replies = [problem(429, "hourly_limit", **({"after": after} if after else {}))]

    with pytest.raises(LimitReached) as caught:
        world.run(core.orders.submit(order()))

    assert caught.value.code == "hourly_limit"
    assert (caught.value.retry_after_s or 0) <= 10_000_000
    assert world.pauses == []


@pytest.mark.parametrize("after", ["soon", "-1", "1.5", ""])
def test_an_odd_retry_after_counts_for_nothing(core, world, problem, image, after):
    world.replies = [problem(503, "unavailable", after=after), (202, image)]

    world.run(core.orders.submit(order()))

    assert world.pauses == [1]


def test_the_wait_is_repeated_until_the_image_has_ended(core, world, image, done):
    def slow(_request):
        world.now_s += 20
        return 202, image

    world.replies = [slow, slow, (201, done)]

    assert picked(world.run(core.orders.complete(order(), None))).image_url == done["imageUrl"]
    assert [request.headers["Prefer"] for request in world.sent] == ["wait=20, respond-async"] * 3
    assert len({request.headers["Idempotency-Key"] for request in world.sent}) == 1
    assert sum(world.pauses) == 0


def test_a_server_that_does_not_wait_is_not_asked_without_pauses(core, world, image, done):
    world.replies = [(202, image)] * 6 + [(201, done)]

    world.run(core.orders.complete(order(), None))

    assert world.pauses == sorted(world.pauses)
    assert sum(world.pauses) > 2


def test_a_time_limit_ends_the_wait_with_the_image(core, world, image):
    world.replies = [lambda _: (202, image)] * 50

    with pytest.raises(StillWaiting) as caught:
        world.run(core.orders.complete(order(), 5.0))

    assert caught.value.image.id == image["id"]
    assert world.now_s == pytest.approx(1005, abs=0.1)


def test_a_time_limit_ends_the_repeats_too(core, world):
    world.replies = [Unreachable("no")] * 9

    with pytest.raises(Unreachable):
        world.run(core.orders.complete(order(), 2.5))

    assert world.pauses == [1]


def silent(world):
    """A server that accepts requests and never answers."""

    def answer(request):
        world.now_s += request.timeout_s
        return ConnectionBroken("no answer")

    return answer


@pytest.mark.parametrize("timeout_s", [0.5, 1, 10, 45])
def test_a_silent_server_holds_nobody_beyond_the_time_limit(core, world, timeout_s):
    world.replies = [silent(world)] * 9

    with pytest.raises(StillWaiting, match="no answer to the order") as caught:
        world.run(core.orders.complete(order(), timeout_s))

    assert caught.value.image is None
    assert timeout_s <= world.now_s - 1000 <= timeout_s + 2


@pytest.mark.parametrize("has_order", [True, False])
def test_a_server_falling_silent_ends_the_wait_with_the_image(core, world, image, has_order):
    ordered = order()
    world.replies = [(202, image), *[silent(world)] * 9]
    images = world.run(core.orders.submit(ordered))

    with pytest.raises(StillWaiting) as caught:
        world.run(core.orders.wait(images, ordered if has_order else None, 1.0))

    assert caught.value.image.id == image["id"]
    assert world.now_s <= 1003


def test_without_a_time_limit_a_silent_server_is_an_error(core, world):
    world.replies = [silent(world)] * 9

    with pytest.raises(ConnectionBroken):
        world.run(core.orders.complete(order(), None))

    assert [request.timeout_s for request in world.sent] == [50] * 4


@pytest.mark.parametrize("error", [TlsFailed("no"), Redirected("elsewhere", status=302)])
def test_an_address_that_is_wrong_ends_the_wait_at_once(core, world, image, error):
    world.replies = [(202, image), error]

    with pytest.raises(type(error)):
        world.run(core.orders.complete(order(), None))

    assert len(world.sent) == 2


def test_a_restart_while_the_image_is_painted_is_waited_for(core, world, image, done):
    world.replies = [(202, image), *[Unreachable("no")] * 9, (201, done)]

    assert world.run(core.orders.complete(order(), None))[0].is_completed


def test_patience_ends(core, world, image):
    world.replies = [(202, image), *[Unreachable("no")] * 99]

    with pytest.raises(Unreachable):
        world.run(core.orders.complete(order(), None))

    assert 1060 < world.now_s < 1070


def test_a_problem_with_an_image_is_the_end_of_it(core, world, problem, image):
    failed = {**image, "status": "failed", "error": {"code": "bad_image", "detail": "no picture"}}
    world.replies = [problem(502, "bad_image", image=failed)]

    with pytest.raises(ImageFailed, match="bad_image: no picture") as caught:
        picked(world.run(core.orders.complete(order(), None)))

    assert (caught.value.code, caught.value.image.id, len(world.sent)) == ("bad_image", image["id"], 1)


def test_a_batch_fails_only_if_none_is_completed(core, world, image, done):
    cancelled = {**image, "status": "cancelled"}
    world.replies = [(201, {**done, "images": [cancelled, done]}), (409, {"image": cancelled, "images": [cancelled]})]

    assert [each.status for each in any_completed(world.run(core.orders.complete(order(), None)))] == [
        "cancelled",
        "completed",
    ]
    with pytest.raises(ImageCancelled):
        any_completed(world.run(core.orders.complete(order(), None)))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"7", b"{}", b'{"id": "../x", "status": "queued"}', b"[" * 9999]
)
def test_another_program_is_told_apart(core, world, body):
    world.replies = [(200, body)]

    with pytest.raises(UnexpectedAnswer):
        world.run(core.orders.submit(order()))

    assert len(world.sent) == 1


def test_what_an_older_or_newer_server_sends_is_understood(core, world):
    world.replies = [(202, {"id": "a", "status": "running", "novelty": {"deep": 1}})]

    (found,) = world.run(core.orders.submit(order()))

    assert (found.id, found.prompt, found.parameters.steps, found.batch) == ("a", "", 0, None)


def test_without_its_order_the_record_is_read(core, world, image, done):
    world.replies = [(202, image), (200, image), (503, b""), (200, done)]
    (first,) = world.run(core.orders.submit(order()))

    assert picked(world.run(core.orders.wait([first], None, None))).is_completed
    assert [request.method for request in world.sent] == ["POST", "GET", "GET", "GET"]


def test_an_internal_error_while_waiting_ends_with_it(core, world, image, problem):
    world.replies = [(202, image), *[problem(503, "unavailable", after="61")] * 2]

    with pytest.raises(ServerError):
        world.run(core.orders.complete(order(), None))
