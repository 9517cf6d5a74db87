"""Which previews of an image become partial images."""

from base64 import b64encode
from types import SimpleNamespace

import pytest

from common.messages import ImageProgressed, Progress
from common.runtime.clock import ManualClock
from services.api.openai.stream import PartialImages
from tests.making import NOON

clock = ManualClock(NOON)


def progress(step, *, image_id="a", preview=True):
    url = f"data:image/webp;base64,{b64encode(str(step).encode()).decode()}" if preview else None
    data = Progress(id=image_id, step=step, steps=10, seconds_left=None, preview=url)
    event = ImageProgressed(
        id="e", source="test", subject=image_id, owner="local", revision=1, attempt=1, time=NOON, data=data
    )
    return SimpleNamespace(event=event)


def chosen(most, steps):
    """What is sent while the previews arrive, then at the end."""
    partials = PartialImages("a", most)
    during = []
    for step in steps:
        partials.on_event(progress(step))
        if (content := partials.take()) is not None:
            during.append(int(content))
    after = []
    while (content := partials.take(is_last=True)) is not None:
        after.append(int(content))
    return during, after


@pytest.mark.parametrize(
    ("most", "steps", "during", "after"),
    [
        (0, range(1, 10), [], []),
        (1, range(1, 10), [1], []),
        (2, range(1, 10), [1, 5], []),
        (3, range(1, 10), [1, 4, 7], []),
        (3, [1, 2], [1], [2]),
        (3, [1, 2, 3], [1], [2, 3]),
        (2, [9], [9], []),
        (3, [], [], []),
    ],
)
def test_partial_images_are_spread_over_the_painting(most, steps, during, after):
    assert chosen(most, steps) == (during, after)


def test_only_previews_of_the_image_count():
    partials = PartialImages("a", 3)
    partials.on_event(progress(1, image_id="b"))
    partials.on_event(progress(1, preview=False))

    assert not partials.news.is_set()
    assert partials.take(is_last=True) is None
