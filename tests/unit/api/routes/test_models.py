"""The models that an owner can request: their list, the checks of a request, the OpenAPI document."""

import itertools
from contextlib import asynccontextmanager
from types import SimpleNamespace

import aiohttp
import jsonschema
import pytest

from common.application.capabilities import Capabilities, Model
from common.application.fleet.announcements import catalogue_of
from common.application.fleet.defaults import completed
from common.application.fleet.validation import NO_GENERATOR, require_offered
from common.application.fleet.view import FleetView, KnownCatalogue
from common.application.resources import Resources
from common.bus.memory import MemoryBus
from common.domain.errors import Invalid
from common.domain.requests import GenerationRequest
from common.media.connect import open_media
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from common.store.sqlite import SqliteStore
from services.api.app import ROUTES
from services.api.routes.openapi.document import describe_rest
from services.api.routes.openapi.models import with_offers
from services.api.service import api_running
from tests.announcing import FakeGenerator

CLOCK = SystemClock()
LIMIT_S = 5
FLUX = Model(id="flux", samplers=("euler",), max_width=512, max_height=768, max_steps=8, grid=64, hires_fix=False)


@pytest.fixture
async def store(tmp_path):
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=LIMIT_S) as store:
        yield store


@asynccontextmanager
async def api_on(store, tmp_path):
    """An api without a generator that takes commands; it has read nothing yet."""
    async with (
        MemoryBus() as bus,
        open_media(str(tmp_path / "media")) as media,
        api_running(
            read_settings({"API_PORT": "0", "ANNOUNCE_INTERVAL": "0.4", "CONCURRENT_REQUESTS": "0"}),
            Resources(bus, store, media, CLOCK),
        ) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):

        async def models():
            async with http.get("/api/models/") as response:
                assert response.status == 200
                return await response.json()

        async def order(**fields):
            headers = {"Prefer": "respond-async"}
            async with http.post("/v1/images/generations", json={"prompt": "x"} | fields, headers=headers) as response:
                return response.status, await response.json()

        yield SimpleNamespace(models=models, order=order, http=http)


async def test_before_any_catalogue_every_model_is_accepted(store, tmp_path):
    async with api_on(store, tmp_path) as api:
        found = await api.models()
        status, image = await api.order(model="anything", sampler="any")

    assert (found["known"], [model["id"] for model in found["models"]]) == (False, ["sdxl"])
    assert (found["models"][0]["samplers"], found["models"][0]["live"]) == (["Euler"], True)
    assert (status, image["modelUsed"], image["waitingFor"]) == (202, "anything", None)


async def test_the_list_holds_what_was_announced(store, tmp_path):
    await FakeGenerator(store, CLOCK).offer(FLUX, engine="a", notice="b")

    async with api_on(store, tmp_path) as api:
        found = await api.models()

    assert (found["known"], found["engine"], found["notice"]) == (True, "a", "b")
    assert found["models"] == [
        {
            "id": "flux",
            "name": "flux",
            "samplers": ["euler"],
            "maxWidth": 512,
            "maxHeight": 768,
            "maxSteps": 8,
            "grid": 64,
            "hiresFix": False,
            "negativePrompt": True,
            "live": True,
        }
    ]


async def test_a_generator_that_lists_no_models_takes_any(store, tmp_path):
    await FakeGenerator(store, CLOCK).offer(samplers=())

    async with api_on(store, tmp_path) as api:
        assert (await api.models())["known"] is False
        status, image = await api.order(model="anything")
    assert (status, image["waitingFor"]) == (202, None)


async def test_a_request_beyond_the_model_is_refused_by_name(store, tmp_path):
    await FakeGenerator(store, CLOCK).offer(FLUX)
    fitting = {"model": "flux", "sampler": "euler", "width": 512, "height": 512, "steps": 8}
    expected = {
        ("model", "sdxl"): ("unknown_model", "flux"),
        ("sampler", "Euler"): ("unknown_sampler", "euler"),
        ("width", 1024): ("not_supported", "512"),
        ("height", 72): ("not_supported", "64"),
        ("steps", 9): ("not_supported", "8"),
        ("hires_fix", True): ("not_supported", "false"),
    }
    async with api_on(store, tmp_path) as api:
        for (name, value), (code, named) in expected.items():
            status, problem = await api.order(**fitting | {name: value})
            assert (status, problem["code"], list(problem["fields"])) == (400, code, [name])
            assert named in problem["fields"][name]

        assert (await api.order(**fitting))[0] == 202


@pytest.mark.parametrize("has_gone_default", [False, True])
async def test_what_a_request_leaves_open_is_chosen(store, tmp_path, has_gone_default):
    """The default model is not there, or has no live generator: the first live model is used, within its limits."""
    if has_gone_default:
        await (await FakeGenerator(store, CLOCK).offer("sdxl")).stop()
    await FakeGenerator(store, CLOCK).offer(FLUX)
    async with api_on(store, tmp_path) as api:
        status, image = await api.order()
        defaults = (await api.models())["defaults"]
        named = [await api.order(**each) for each in ({"sampler": "Euler"}, {"width": 1024}, {"model": "none"})]

    chosen = image["parameters"]
    used = (image["modelUsed"], image["width"], image["height"], chosen["steps"], chosen["sampler"])
    assert (status, used, image["waitingFor"]) == (202, ("flux", 512, 768, 8, "euler"), None)
    assert [defaults[name] for name in ("model", "width", "height", "steps", "sampler")] == list(used)
    assert [code for code, _ in named] == [400, 400, 400]


async def test_a_generator_of_any_model_takes_over_a_listed_one(store, tmp_path):
    """A server that lists no models has taken the place of one that did: its old models do not wait."""
    await (await FakeGenerator(store, CLOCK).offer("sdxl", "flux")).stop()
    await FakeGenerator(store, CLOCK).offer(samplers=())
    async with api_on(store, tmp_path) as api:
        assert [(await api.order(**each))[1]["waitingFor"] for each in ({}, {"model": "flux"})] == [None, None]


async def test_a_model_whose_generators_are_gone_waits(store, tmp_path):
    """Its order is accepted, says what it waits for in REST and on the websocket, and no more once one is back."""
    generator = await FakeGenerator(store, CLOCK).offer("sdxl")
    await generator.stop()
    async with api_on(store, tmp_path) as api, api.http.ws_connect("/ws") as socket:
        assert (await socket.receive_json(timeout=LIMIT_S))["type"] == "hello"
        status, image = await api.order()
        frames = [await socket.receive_json(timeout=LIMIT_S)]
        while frames[-1]["type"] != "waiting":
            frames.append(await socket.receive_json(timeout=LIMIT_S))

        assert (status, image["waitingFor"], (await api.models())["models"][0]["live"]) == (202, NO_GENERATOR, False)
        assert frames[-1] == {"type": "waiting", "waitingFor": {image["id"]: NO_GENERATOR}}
        async with api.http.ws_connect("/ws") as late:
            while (frame := await late.receive_json(timeout=LIMIT_S))["type"] != "waiting":
                pass
            assert frame == frames[-1]
        await generator.beat()
        while frames[-1] != {"type": "waiting", "waitingFor": {}}:
            frames.append(await socket.receive_json(timeout=LIMIT_S))
        assert {"type": "models"} in frames
        async with api.http.get(f"/api/images/{image['id']}/") as response:
            assert (await response.json())["waitingFor"] is None


VALUES: dict[str, list[object]] = {
    "model": ["sdxl", "flux", "other"],
    "sampler": ["Euler", "euler"],
    "width": [512, 768, 520],
    "steps": [8, 30],
    "hires_fix": [False, True],
    "negative_prompt": ["", "blur"],
}
SDXL = Model(id="sdxl", max_steps=30, negative_prompt=False)


@pytest.mark.parametrize(
    ("of_servers", "is_live"),
    [
        ([], True),
        ([Capabilities(models=(SDXL, FLUX), samplers=("Euler",))], True),
        ([Capabilities(models=(SDXL, FLUX))], False),
        ([Capabilities(models=(FLUX,)), Capabilities(samplers=("Euler",))], True),
        ([Capabilities()], True),
    ],
)
def test_the_document_allows_what_the_server_accepts(of_servers, is_live):
    """Each combination of a few values of all fields, given or left out."""
    known = [KnownCatalogue(catalogue_of([found], pool="p"), is_live) for found in of_servers]
    view = FleetView([], known)
    document = with_offers(describe_rest(ROUTES), view.catalogue())
    schema = {"$ref": "#/components/schemas/GenerationRequest", **document}
    validator = jsonschema.Draft202012Validator(schema)
    for values in itertools.product(*([None, *some] for some in VALUES.values())):
        request = {"prompt": "x", "height": 512}
        request |= {name: value for name, value in zip(VALUES, values, strict=True) if value is not None}
        assert validator.is_valid(request) == _is_accepted(request, view), request


def _is_accepted(request, view):
    try:
        require_offered(completed(GenerationRequest.model_validate(request), view), view)
    except Invalid:
        return False
    return True
