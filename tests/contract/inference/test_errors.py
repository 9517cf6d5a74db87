"""The contract of errors: each answer of a server becomes the error that says what the generator does next."""

import pytest

from common.domain.errors import BadImage, Denied, InferenceError, Rejected, Transient, Unreachable
from services.generator.pictures import check
from tests.contract.inference.dialect import ignore
from tests.contract.inference.dialects import others_are_long
from tests.engines.engine import EngineFault
from tests.making import an_image
from tests.waiting import until

EXPECTED: dict[EngineFault, type[InferenceError] | tuple[type[InferenceError], ...]] = {
    EngineFault.BUSY: Transient,
    EngineFault.SERVER_ERROR: Transient,
    EngineFault.UNAUTHORIZED: Denied,
    EngineFault.REDIRECT: Rejected,
    EngineFault.OVERSIZED: BadImage,
    EngineFault.WRONG_SIZE: BadImage,
    EngineFault.NOT_BASE64: BadImage,
    EngineFault.NO_PICTURE: (BadImage, Transient),
    EngineFault.NOT_JSON: (BadImage, Transient),
    EngineFault.ERROR_INSIDE: (BadImage, Transient, Rejected),
}


async def painted_and_checked(bench, job=None) -> None:
    """As the generator does: the size and the bytes of the picture are checked."""
    job = job or bench.job()
    result = await bench.backend.generate(job, ignore)
    check(
        result.content,
        max_pixels=1_000_000,
        thumbnail_size=64,
        thumbnail_format=None,
        ordered=(job.width, job.height),
    )


@pytest.mark.parametrize("fault", EXPECTED)
async def test_each_fault_has_its_error_and_ends(bench, request, fault):
    """The next attempt paints: the same job, with a new remote id if the error asks for it."""
    if reason := bench.dialect.lacks.get(f"fault {fault}"):
        request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))
    image = an_image()
    bench.engine.fail(fault)
    with pytest.raises(EXPECTED[fault]) as raised:
        await painted_and_checked(bench, bench.job_of(image))

    bench.engine.recover()
    bench.backend = await bench.connect()

    refused = int(raised.value.needs_new_id)
    await painted_and_checked(bench, bench.job_of(image.model_copy(update={"refused": refused})))


@pytest.mark.needs("fault busy")
async def test_a_busy_server_says_how_long_to_wait(bench):
    bench.engine.fail(EngineFault.BUSY)

    with pytest.raises(Transient) as raised:
        await bench.paint()

    assert raised.value.retry_after_s == 7


async def test_a_server_that_is_down_is_unreachable(bench):
    await bench.proxy.refuse()

    with pytest.raises(Unreachable):
        await bench.paint()
    with pytest.raises(Unreachable):
        await bench.backend.capabilities(fresh=True)


@others_are_long
async def test_a_silent_server_is_a_timeout(bench):
    impatient = await bench.connect(INFERENCE_TIMEOUT="0.5")
    bench.engine.fail(EngineFault.SILENT)

    with pytest.raises(Transient, match=r"0\.5 s"):
        await impatient.generate(bench.job(), ignore)


async def test_errors_are_short_lines(bench):
    for fault in (EngineFault.SERVER_ERROR, EngineFault.ERROR_INSIDE, EngineFault.NOT_JSON):
        if f"fault {fault}" in bench.dialect.lacks:
            continue
        bench.engine.fail(fault)
        with pytest.raises(InferenceError) as raised:
            await painted_and_checked(bench)
        bench.engine.recover()

        assert len(raised.value.detail) <= 500
        assert raised.value.detail.isprintable()


async def test_a_server_that_restarts_during_the_work(bench):
    """The attempt ends at once, or is continued; the next one has a picture."""
    bench.engine.fail(EngineFault.RESTART)
    job = bench.job(seed=5)
    with pytest.raises((Transient, Unreachable)):
        await bench.backend.generate(job, ignore)
    bench.engine.recover()
    await until(bench.is_up)

    assert (await bench.backend.generate(job, ignore)).content
    assert bench.engine.painted == [5]
