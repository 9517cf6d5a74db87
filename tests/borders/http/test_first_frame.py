"""The first frame of a websocket: what is being painted, then the head of the queue."""

from datetime import timedelta

import pytest

from common.domain.images import Status
from tests.borders.http.conftest import CLOCK
from tests.making import an_image

pytestmark = pytest.mark.border(rule="D10")


def images_of(count, *, running=(), retried=()):
    """The owner's images, one a second; some are running, and some wait for a retry that is due last."""
    began = CLOCK.now() - timedelta(minutes=30)
    found = []
    for number in range(count):
        at = began + timedelta(seconds=number)
        fields = {"started_at": CLOCK.now(), "status": Status.RUNNING} if number in running else {}
        fields |= {"not_before": CLOCK.now() + timedelta(minutes=1)} if number in retried else {}
        found.append(an_image(created_at=at, **fields))
    return found


async def first_frame(api) -> dict:
    async with api.http.ws_connect(f"{api.url}/ws") as socket:
        return await socket.receive_json(timeout=10)


@pytest.mark.long_unless("oldest", "a retry", "all of 200")
@pytest.mark.parametrize(
    ("count", "running", "retried"),
    [
        (260, (0, 1), ()),
        (260, (258, 259), ()),
        (260, (100,), (0, 1)),
        (201, (), ()),
        (200, (3,), ()),
        (450, tuple(range(0, 440, 2)), ()),
        (3, (2,), (0,)),
        (0, (), ()),
    ],
    ids=["oldest", "newest", "a retry", "none of 201", "all of 200", "220 running", "three", "no image"],
)
async def test_the_first_frame_shows_what_is_painted_first(serve, count, running, retried):
    images = images_of(count, running=running, retried=retried)
    async with serve() as api:
        for image in images:
            await api.store.insert(image)
        frame = await first_frame(api)

    shown = [image["id"] for image in frame["images"]]
    waiting = [image.id for number, image in enumerate(images) if number not in {*running, *retried}]
    expected = [images[number].id for number in running] + waiting + [images[number].id for number in retried]
    assert frame["type"] == "hello"
    assert len(shown) == min(count, 200) == len(set(shown))
    assert frame["more"] == count - len(shown)
    if len(running) < 200:
        assert shown == expected[:200]
    else:
        assert {image["status"] for image in frame["images"]} == {"running"}


@pytest.mark.parametrize(
    "fields",
    [
        {"owner": "bob"},
        {"owner": "LOCAL"},
        {"status": Status.COMPLETED, "started_at": CLOCK.now()},
        {"status": Status.CANCELLED},
        {"deleted_at": CLOCK.now()},
        {"status": Status.RUNNING, "started_at": CLOCK.now(), "deleted_at": CLOCK.now()},
    ],
    ids=lambda fields: "-".join(map(str, fields)),
)
async def test_what_is_not_waiting_for_this_owner_is_not_counted(serve, fields):
    own = images_of(203, running=(1,))
    async with serve() as api:
        for image in own:
            await api.store.insert(image)
        for _ in range(5):
            await api.store.insert(an_image(**{"created_at": CLOCK.now() - timedelta(hours=1), **fields}))
        frame = await first_frame(api)

    shown = [image["id"] for image in frame["images"]]
    assert (shown[0], len(shown), frame["more"]) == (own[1].id, 200, 3)
    assert set(shown) <= {image.id for image in own}


async def test_a_gap_counts_the_rest_too(serve):
    async with serve() as api:
        for image in images_of(205, running=(0,)):
            await api.store.insert(image)
        async with api.http.ws_connect(f"{api.url}/ws?after=unknown") as socket:
            frame = await socket.receive_json(timeout=10)

    assert (frame["type"], frame["images"][0]["status"], frame["more"]) == ("gap", "running", 5)
