"""A generator with two back ends, of which one dies, denies, or has other models."""

import asyncio
import itertools
from contextlib import asynccontextmanager
from functools import partial

import pytest
from aiohttp import web

from common.application.fleet.announcements import CATALOGUES, HEARTBEATS
from common.application.resources import Resources
from common.bus.port import WorkQueue
from common.domain import transitions
from common.domain.images import Parameters
from common.runtime import metrics
from common.runtime.reading_settings import read_settings
from common.store.port import change
from services.generator.backends.configured import backends_at
from services.generator.backends.definition import BackendDefinition
from services.generator.worker import run_generator
from tests.engines.comfyui import Comfyui, comfyui
from tests.inference_double import Inference, inference_double, paint
from tests.unit.generator.test_generate import bench
from tests.waiting import until

MODEL = "sd_xl_base_1.0.safetensors"
SEEDS = itertools.count()
ONE_EACH = {"GENERATOR_CONCURRENCY": "1", "ANNOUNCE_INTERVAL": "0.2"}


@asynccontextmanager
async def two_of_comfyui(tmp_path, **more):
    """A generator with two fakes of ComfyUI, each with one slot; both hold what they paint."""
    async with comfyui() as left, comfyui() as right:
        for fake in (left, right):
            fake.hold()
        async with bench(tmp_path, inference_url=urls_of(left, right), **ONE_EACH | more) as made:
            yield made, left, right


async def order(made, **fields) -> str:
    """An image with a seed of its own, or ComfyUI would take its picture from the cache."""
    parameters = Parameters(steps=4, cfg_scale=7.5, sampler="Euler", seed=next(SEEDS), hires_fix=False)
    return await made.order(parameters=parameters, **{"model": MODEL} | fields)


async def both_held(left: Comfyui, right: Comfyui) -> None:
    """Wait until both are at the first step of an image."""
    async with asyncio.timeout(30):
        await asyncio.gather(left.held.wait(), right.held.wait())


def urls_of(*fakes: Comfyui) -> str:
    return " ".join(f"comfyui+{fake.url}" for fake in fakes)


async def states(made) -> dict[str, str]:
    """The circuits in the heartbeat, by back end."""
    (entry,) = await made.store.list_entries(HEARTBEATS)
    return {backend["name"]: backend["circuit"] for backend in entry.data["backends"]}


async def leases(made, images) -> dict[str, str]:
    """The back ends that paint these images."""
    return {image_id: (await made.store.get(image_id)).lease.backend for image_id in images}


def name_of(fake) -> str:
    return fake.url.partition("//")[2]


async def test_one_of_two_dies_under_load_and_comes_back(tmp_path):
    """No failure is counted, no image takes an attempt at the dead one, and the other one paints them all."""
    async with two_of_comfyui(tmp_path) as (made, left, right):
        first = [await order(made) for _ in range(2)]
        await both_held(left, right)
        later = [await order(made) for _ in range(4)]
        assert (len(left.graphs), len(right.graphs)) == (1, 1), "each has one slot"
        await left.stop()
        await until(lambda: metrics.circuit_open.labels(name_of(left))._value.get() == 1)
        await until(lambda: _is(made, left="open", right="closed", of=(left, right)))
        right.release()
        images = [await made.final(image_id) for image_id in first + later]

        assert {(image.status, image.failures, image.lost) for image in images} == {("completed", 0, 0)}
        assert sorted(image.attempts for image in images) == [1, 1, 1, 1, 1, 2]
        assert len(right.graphs) == 6
        await left.start()
        await until(lambda: _is(made, left="closed", right="closed", of=(left, right)))
        left.hold()
        right.hold()
        again = [await order(made) for _ in range(2)]
        await both_held(left, right)
        left.release()
        right.release()
        assert {(await made.final(image_id)).attempts for image_id in again} == {1}


async def _is(made, *, left: str, right: str, of) -> bool:
    return await states(made) == {name_of(of[0]): left, name_of(of[1]): right}


async def test_both_of_two_die_and_the_images_wait_in_the_queue(tmp_path):
    async with two_of_comfyui(tmp_path) as (made, left, right):
        await until(lambda: made.store.list_entries(CATALOGUES))
        await left.stop()
        await right.stop()
        images = [await order(made) for _ in range(2)]
        await until(lambda: _is(made, left="open", right="open", of=(left, right)))
        later = await order(made)
        await until(lambda: _waits_in_the_queue(made))
        await right.start()
        right.release()
        found = [await made.final(image_id) for image_id in (*images, later)]

        assert {(image.status, image.failures, image.waiting_since) for image in found} == {("completed", 0, None)}
        assert found[-1].attempts == 1, "it was not tried at a dead one"
        assert (len(left.graphs), len(right.graphs)) == (0, 3)


async def _waits_in_the_queue(made) -> bool:
    return await made.bus.waiting(WorkQueue.GENERATE) == 3


async def test_a_cancel_stops_the_work_where_it_is_painted(tmp_path):
    async with two_of_comfyui(tmp_path) as (made, left, right):
        images = [await order(made) for _ in range(2)]
        await both_held(left, right)
        held = {backend: image_id for image_id, backend in (await leases(made, images)).items()}
        assert set(held) == {name_of(left), name_of(right)}
        cancel = partial(transitions.cancel, now=made.clock.now())
        await made.outbox.publish_pending(await change(made.store, held[name_of(right)], cancel))
        await until(lambda: right.interrupted)
        left.release()

        assert (await made.final(held[name_of(left)])).status == "completed"
        assert (len(right.interrupted), left.interrupted, left.deleted) == (1, [], [])


async def test_the_next_worker_asks_the_back_end_of_the_one_before(tmp_path):
    """The generator stops while both paint. Another one, which lists them the other way round, takes over both."""
    async with two_of_comfyui(tmp_path, GRACE_PERIOD="0.01") as (made, left, right):
        images = [await order(made) for _ in range(2)]
        await both_held(left, right)
        where = await leases(made, images)
        made.stopping.set()
        await made.task
        assert {(await made.store.get(image_id)).backend for image_id in images} == set(where.values())

        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            backends = backends_at(urls_of(right, left).split(), made.settings)
            resources = Resources(made.bus, made.store, made.media, made.clock)
            group.create_task(run_generator(made.settings, resources, backends=backends, stopping=stopping))
            await until(lambda: _are_claimed(made, images))
            again = await leases(made, images)
            left.release()
            right.release()
            assert {(await made.final(image_id)).status for image_id in images} == {"completed"}
            stopping.set()

        assert again == where
        assert (len(left.painted), len(right.painted)) == (1, 1)


async def _are_claimed(made, images) -> bool:
    return all([(await made.store.get(image_id)).lease for image_id in images])


async def test_an_image_whose_only_back_end_died_waits_for_it(tmp_path):
    """Its slot is free, nothing is counted, and the other back end goes on with its own model."""
    async with comfyui() as left, comfyui() as right:
        backends = [
            BackendDefinition(name, f"comfyui+{fake.url}", 1, models={model: MODEL})
            for name, fake, model in (("left", left, "a"), ("right", right, "b"))
        ]
        async with bench(tmp_path, backends=backends, CONCURRENT_REQUESTS="1", **ONE_EACH) as made:
            await until(lambda: _offers(made, {"a", "b"}))
            await left.stop()
            waits = await order(made, model="a", slot="local:0")
            await until(lambda: _is_waiting(made, waits))
            waiting = await made.store.get(waits)
            other = await made.final(await order(made, model="b", owner="other", slot="other:0"))
            await left.start()
            image = await made.final(waits)

            assert (waiting.slot, waiting.failures, waiting.attempts <= 1) == (None, 0, True)
            assert (other.status, image.status, image.failures) == ("completed", "completed", 0)
            assert (len(left.painted), len(right.painted)) == (1, 1)
            graph = next(iter(left.graphs.values()))
            assert MODEL in str(graph), "the server knows the model under its own name"


async def test_many_images_for_one_back_end_do_not_stop_the_other(tmp_path):
    """Images for the busy one go back to the queue, one each second, and no attempt of them is counted."""
    async with comfyui() as left, comfyui() as right:
        left.hold()
        backends = [
            BackendDefinition(name, f"comfyui+{fake.url}", 1, models={model: MODEL})
            for name, fake, model in (("left", left, "a"), ("right", right, "b"))
        ]
        async with bench(tmp_path, backends=backends, **ONE_EACH) as made:
            await until(lambda: _offers(made, {"a", "b"}))
            many = [await order(made, model="a") for _ in range(5)]
            other = await made.final(await order(made, model="b"))
            assert (other.status, len(left.graphs)) == ("completed", 1)
            left.release()
            images = [await made.final(image_id) for image_id in many]

            assert {(image.status, image.attempts, image.failures) for image in images} == {("completed", 1, 0)}
            assert (len(left.graphs), len(right.graphs)) == (5, 1)


async def _offers(made, models) -> bool:
    found = [entry.data for entry in await made.store.list_entries(CATALOGUES)]
    return any({model["id"] for model in data["models"]} == models for data in found)


async def _is_waiting(made, image_id) -> bool:
    return (await made.store.get(image_id)).is_waiting


@asynccontextmanager
async def two_with_keys(tmp_path):
    """Two servers on one host, each with a key of its own, and the headers that each of them got."""
    async with inference_double() as left, inference_double() as right:
        headers: dict[str, list] = {"left": [], "right": []}
        backends = []
        for name, double in (("left", left), ("right", right)):
            double.always(_recording(headers[name], paint))
            backends.append(BackendDefinition(name, double.url, 1, api_key=f"{name}-key"))
        async with bench(tmp_path, backends=backends, **ONE_EACH) as made:
            yield made, left, right, headers


def _recording(headers: list, answer):
    async def record(request: web.Request, order: dict) -> web.StreamResponse:
        headers.append(request.headers)
        response = await answer(request, order)
        response.set_cookie("session", "secret")
        return response

    return record


async def test_each_back_end_gets_its_own_key_only(tmp_path):
    """Neither a redirect nor a cookie leads what belongs to one of them to the other."""
    async with two_with_keys(tmp_path) as (made, left, right, headers):
        left.will(_recording(headers["left"], _redirect_to(right)))
        images = [await made.final(await made.order()) for _ in range(6)]

        sent = {name: {each["Authorization"] for each in found} for name, found in headers.items()}
        assert sent["left"] == {"Bearer left-key"}
        assert sent["right"] <= {"Bearer right-key"}
        assert not any("Cookie" in each for found in headers.values() for each in found)
        assert [image.status for image in images].count("failed") == 1, "the redirected one"


def _redirect_to(double: Inference):
    async def redirect(_request: web.Request, _order: dict) -> web.Response:
        return web.Response(status=307, headers={"Location": f"{double.url}/inference/images/generations"})

    return redirect


@pytest.mark.parametrize("urls", ["http://127.0.0.1:1 http://localhost:1"])
def test_a_shared_key_never_gets_as_far_as_a_request(urls):
    settings = read_settings({"INFERENCE_SERVICE_URL": urls, "INFERENCE_SERVICE_API_KEY": "k"})
    with pytest.raises(Exception, match="several origins"):
        backends_at(settings.inference_service_url, settings)
