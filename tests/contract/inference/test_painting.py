"""The contract of `generate`: the picture, its size and seed, progress and previews, fields that are refused."""

from io import BytesIO

import pytest
from PIL import Image

from common.domain.errors import Rejected
from services.generator.pictures import make_preview
from tests.contract.inference.dialect import ignore


def size_of(content: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(content)) as picture:
        return picture.size


@pytest.mark.parametrize("size", [(64, 64), (128, 64), (64, 192)], ids=str)
async def test_the_picture_has_exactly_the_size(bench, size):
    result = await bench.paint(bench.job(width=size[0], height=size[1]))

    assert size_of(result.content) == size


@pytest.mark.needs("seed")
async def test_the_seed_makes_the_picture(bench):
    first, again, other = [(await bench.paint(bench.job(seed=seed))).content for seed in (4294967295, 4294967295, 0)]

    assert first == again != other
    assert set(bench.engine.painted) == {4294967295, 0}


async def test_a_seed_that_is_reported_is_the_seed_of_the_job(bench):
    assert (await bench.paint(bench.job(seed=123))).seed in {None, 123}


@pytest.mark.needs("progress")
async def test_the_progress_grows_to_its_end(bench):
    steps: list[tuple[int, int]] = []

    await bench.backend.generate(bench.job(steps=5), lambda *step: steps.append(step))

    assert steps
    assert steps == sorted(steps)
    assert all(0 < step <= of for step, of in steps)


@pytest.mark.needs("previews")
async def test_previews_are_pictures(bench):
    previews: list[bytes] = []

    await bench.backend.generate(bench.job(steps=5), ignore, previews.append)

    assert previews
    assert [make_preview(each, max_bytes=16_000)[:4] for each in previews] == [b"RIFF"] * len(previews)


async def test_previews_without_a_callback_are_ignored(bench):
    assert size_of((await bench.paint()).content) == (64, 64)


async def test_a_prompt_is_sent_as_it_is(bench):
    odd = 'a "cat" {seed} %s \\n ["4", 0] (red:1.2), été 🦊\nsecond line'

    pictures = [(await bench.paint(bench.job(prompt=prompt))).content for prompt in (odd, odd + " ")]

    assert [size_of(each) for each in pictures] == [(64, 64)] * 2


@pytest.mark.needs("negative_prompt")
async def test_a_negative_prompt_reaches_the_server(bench):
    pictures = [(await bench.paint(bench.job(negative_prompt=text))).content for text in ("", "text")]

    assert pictures[0] != pictures[1]


@pytest.mark.needs("hires_fix")
async def test_a_hires_fix_reaches_the_server(bench):
    pictures = [(await bench.paint(bench.job(width=128, hires_fix=wanted))).content for wanted in (False, True)]

    assert pictures[0] != pictures[1]
    assert [size_of(each) for each in pictures] == [(128, 64)] * 2


@pytest.mark.parametrize(
    ("field", "value"), [("sampler", "No such sampler"), ("model", "no-such-model")], ids=["sampler", "model"]
)
async def test_an_unknown_name_is_refused_with_its_field(bench, request, field, value):
    if reason := bench.dialect.lacks.get(f"{field}s"):
        request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))

    with pytest.raises(Rejected, match=f"^.*{field}"):
        await bench.paint(bench.job(**{field: value}))

    assert bench.engine.begun == 0


async def test_what_the_server_cannot_do_is_refused_with_the_field(bench):
    """Each field that the capabilities exclude; a dialect that can do all of them refuses none."""
    offered = await bench.backend.capabilities()
    wanted = {"hires_fix": True, "negative_prompt": "text"}
    for field, value in wanted.items():
        if offered.features is not None and field not in offered.features and field in bench.dialect.lacks:
            with pytest.raises(Rejected, match=field):
                await bench.paint(bench.job(**{field: value}))

    assert bench.engine.begun == 0
