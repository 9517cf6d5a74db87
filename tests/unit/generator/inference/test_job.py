"""Jobs: their remote ids, by which the next worker finds the work; who may stop it."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from common.domain import transitions
from common.domain.errors import BadImage, Rejected, Transient
from common.domain.images import Failure
from common.store.port import change
from services.generator.inference.job import job_of
from services.generator.inference.native.backend import NativeBackend
from tests.inference_double import body
from tests.making import an_image
from tests.unit.generator.test_generate import bench


def remote_id(image, deployment="one") -> str:
    return job_of(image, deployment=deployment).remote_id


def test_a_remote_id_does_not_depend_on_the_attempt():
    image = an_image()
    later = image.model_copy(update={"attempts": 5, "lost": 2, "failures": 2, "error": Failure(code="x", detail="")})

    assert remote_id(image) == remote_id(later)
    assert str(UUID(remote_id(image))) == remote_id(image)  # ComfyUI takes the canonical form only


def test_a_remote_id_depends_on_the_refused_results():
    image = an_image()
    refused = image.model_copy(update={"refused": 1})
    ids = {remote_id(image), remote_id(an_image()), remote_id(image, "two"), remote_id(refused)}

    assert len(ids) == 4


def test_a_job_has_all_parameters_of_the_record():
    image = an_image(prompt="a", negative_prompt="b", width=128)
    job = job_of(image, deployment="one")

    assert (job.prompt, job.negative_prompt, job.width, job.height, job.seed) == ("a", "b", 128, 64, 7)
    assert {name: getattr(job, name) for name in type(image.parameters).model_fields} == image.parameters.model_dump()


@pytest.mark.parametrize(
    ("error", "needs_new_id"),
    [
        (BadImage("not a picture"), True),
        (Transient("interrupted", needs_new_id=True), True),
        (Transient("lost"), False),
        (Rejected("no"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_say_whether_the_run_is_over(error, needs_new_id):
    assert error.needs_new_id == needs_new_id


async def test_a_bad_picture_is_counted_on_the_record(tmp_path):
    async with bench(tmp_path) as made:
        made.inference.always(body(b"no picture"))

        image = await made.final(await made.order())

        assert (image.status, image.refused, image.failures) == ("failed", 1, 0)


@pytest.fixture
def stopped(monkeypatch) -> list[str]:
    """The ids of the images whose work was stopped."""
    found: list[str] = []

    async def stop(_self, job) -> None:
        found.append(job.image_id)
        raise OSError("an error that no back end may raise")

    monkeypatch.setattr(NativeBackend, "stop", stop)
    return found


@pytest.mark.parametrize("end", ["cancel", "fail_past_deadline", "delete"])
async def test_the_work_of_an_image_that_ended_is_stopped(tmp_path, stopped, end):
    """The worker learns it when it renews its lease, as if the event was lost."""
    async with bench(tmp_path, LEASE="0.3") as made:
        made.inference.will(made.inference.hold)
        image_id = await made.order()
        await made.inference.held.wait()

        await change(made.store, image_id, lambda image: getattr(transitions, end)(image, now=made.clock.now()))
        await asyncio.wait_for(made.inference.dropped.wait(), 5)
        again = await made.final(await made.order())  # the generator goes on

        assert again.status == "completed"
    assert stopped == [image_id]


@pytest.mark.parametrize("to", ["queue", "another worker"])
async def test_the_work_of_an_image_with_another_worker_goes_on(tmp_path, stopped, to):
    async with bench(tmp_path, LEASE="0.6") as made:
        made.inference.will(made.inference.hold)
        image_id = await made.order()
        await made.inference.held.wait()

        def taken(image):
            queued = transitions.expire_lease(image, lease=image.lease, now=made.clock.now())
            if to == "queue":
                return queued.model_copy(update={"not_before": made.clock.now() + timedelta(hours=1)})
            lease = image.lease.model_copy(update={"token": "other", "until": made.clock.now() + timedelta(hours=1)})
            return replace_lease(queued, lease, made)

        await change(made.store, image_id, taken)
        await asyncio.wait_for(made.inference.dropped.wait(), 5)
        await made.final(await made.order())

    assert stopped == []


def replace_lease(image, lease, made):
    claimed = transitions.claim(image, lease=lease, now=made.clock.now(), deadline=timedelta(minutes=15))
    return claimed.model_copy(update={"revision": image.revision})
