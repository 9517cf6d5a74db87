import asyncio

import pytest

from common.domain.errors import Invalid
from tests.making import NOON

ID = "019469d5-ae18-75ea-918b-6782d8deb53d"
KEY = f"generated_images/2025/01/{ID}.png"
MALFORMED = [
    "",
    "x",
    f"../generated_images/2025/01/{ID}.png",
    f"generated_images/2025/01/../../../{ID}.png",
    f"/generated_images/2025/01/{ID}.png",
    f"generated_images/2025/01/{ID}.png\n",
    f"generated_images/2025/01/{ID}.png\0",
    f"generated_images/2025/01/{ID}.svg",
    f"generated_images/2025/01/{ID}-.png",
    f"generated_images/2025/1/{ID}.png",
    f"generated_images/٢٠٢٥/01/{ID}.png",
    f"generated_images/2025/01/{ID.upper()}.png",
    f"other/2025/01/{ID}.png",
    f"generated_images/2025/01/.{ID}.png",
]


def a_key(number: int, folder: str = "generated_images") -> str:
    return f"{folder}/2025/01/{number:08x}{ID[8:]}.webp"


async def everything(media) -> dict:
    return {file.key: file async for page in media.walk() for file in page}


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        f"thumbnails/2025/01/{ID}.png",
        f"generated_images/2025/12/{ID}-2.jpg",
        f"thumbnails/1999/01/{ID}-12.webp",
    ],
)
async def test_what_is_put_is_there(media, key):
    content = bytes(range(256)) * 1000
    assert await media.get(key) is None
    assert await media.exists([key]) == set()

    await media.put(key, content)

    assert await media.get(key) == content
    assert await media.exists([key]) == {key}


async def test_put_again_replaces(media):
    await media.put(KEY, b"one")

    await media.put(KEY, b"two, and longer")

    assert await media.get(KEY) == b"two, and longer"
    assert list(await everything(media)) == [KEY]


async def test_a_reader_sees_all_of_it_or_none(media):
    contents = [bytes([number]) * 300_000 for number in range(20)]
    seen = set()

    async def write():
        for content in contents:
            await media.put(KEY, content)

    writing = asyncio.create_task(write())
    while not writing.done():
        seen.add(await media.get(KEY))
    await writing

    assert seen <= {None, *contents}


async def test_racing_writers_leave_one_whole_file(media):
    contents = [bytes([number]) * 100_000 for number in range(10)]

    await asyncio.gather(*(media.put(KEY, content) for content in contents))

    assert await media.get(KEY) in contents
    assert list(await everything(media)) == [KEY]


async def test_what_is_gone_can_be_removed_again(media):
    keys = [a_key(number) for number in range(5)]
    await asyncio.gather(*(media.put(key, b"x") for key in keys))

    await media.remove(keys[:3])
    assert await media.exists(keys) == {*keys[3:]}
    for some in (keys, keys, []):
        await media.remove(some)

    assert await media.exists(keys) == set()


async def test_racing_removals_leave_nothing(media):
    keys = [a_key(number) for number in range(50)]
    await asyncio.gather(*(media.put(key, b"x") for key in keys))

    await asyncio.gather(*(media.remove(keys) for _ in range(4)))

    assert await everything(media) == {}


@pytest.mark.parametrize("opening_media", ["files", pytest.param("objects", marks=pytest.mark.long)], indirect=True)
async def test_walk_lists_everything_in_pages(media):
    keys = {a_key(number, folder) for number in range(520) for folder in ("generated_images", "thumbnails")}
    await asyncio.gather(*(media.put(key, b"four") for key in keys))

    pages = [page async for page in media.walk()]

    assert [len(page) for page in pages] == [1000, 40]
    files = [file for page in pages for file in page]
    assert {file.key for file in files} == keys
    assert {file.size for file in files} == {4}
    assert all(file.changed_at > NOON and file.changed_at.utcoffset().total_seconds() == 0 for file in files)
    # half of them: looked for among their neighbours
    assert await media.exists([*sorted(keys)[::2], f"generated_images/2025/01/{ID}.jpg"]) == {*sorted(keys)[::2]}
    await media.remove([file.key for file in files])
    assert await everything(media) == {}


async def test_walk_of_nothing_is_empty(media):
    assert [page async for page in media.walk()] == []


async def test_check_leaves_nothing_behind(media):
    await media.check()

    assert await everything(media) == {}


async def test_a_key_of_another_form_is_refused(media):
    for key in MALFORMED:
        for asking in (
            media.put(key, b"x"),
            media.get(key),
            media.version(key),
            media.read(key, start=0, length=1),
            media.remove([KEY, key]),
        ):
            with pytest.raises(Invalid):
                await asking

        assert media.path(key) is None
    assert await media.exists(MALFORMED) == set()


async def test_a_checkpoint_is_read_as_it_was_written(media):
    assert await media.checkpoint() is None

    for number in (1, 12_345_678_901):
        await media.set_checkpoint(number)
        assert await media.checkpoint() == number
    assert await everything(media) == {}


async def test_a_part_is_read_with_the_version_of_the_whole(media):
    assert await media.version(KEY) is None
    assert await media.read(KEY, start=0, length=10) is None
    await media.put(KEY, b"0123456789")

    parts = [await media.read(KEY, start=start, length=length) for start, length in ((0, 4), (4, 100), (10, 5), (3, 0))]

    version = await media.version(KEY)
    assert [part.content for part in parts] == [b"0123", b"456789", b"", b""]
    assert {part.version for part in parts} == {version}
    assert version.size == 10
    assert '"' not in version.etag
    await media.put(KEY, b"9876543210")
    assert (await media.version(KEY)).etag != version.etag


async def test_a_cancelled_put_does_not_appear_later(media):
    """A put is cancelled as soon as it has begun; what is there when it ends is there for good."""
    seen = []
    for number in range(10):
        key = a_key(number)
        putting = asyncio.create_task(media.put(key, b"x" * 500_000))
        await asyncio.sleep(0)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        seen.append(await media.exists([key]))
        await media.remove([key])

    assert set().union(*seen) <= {a_key(number) for number in range(10)}
    assert await everything(media) == {}


async def test_the_marker_is_that_of_the_last_claim(media, opening_media):
    assert await media.marker() is None

    await media.mark("019469d5-ae18-75ea-918b-6782d8deb53d")
    await media.check()
    async with opening_media() as other:
        assert await other.marker() == "019469d5-ae18-75ea-918b-6782d8deb53d"
        await other.mark("another")

    assert await media.marker() == "another"
    assert await everything(media) == {}
