"""Fixtures of browser tests: one Chromium for the run, a clean profile for each test."""

import asyncio
import inspect
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext

from tests.browser.inference_stub import CAPABILITIES
from tests.browser.visit import Visit
from tests.cluster import embedded, front_end
from tests.inference_double import inference_double
from tests.servers.chromium import PATIENCE_MS, launched

HERE = Path(__file__).parent

# one loop for all: the browser belongs to the loop that started it
in_session = pytest_asyncio.fixture(loop_scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("browser")
            if inspect.iscoroutinefunction(getattr(item, "function", None)):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser():
    async with launched() as browser:
        yield browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def inference_of_the_run():
    async with inference_double() as double:
        double.capabilities = CAPABILITIES
        yield double


@in_session
async def inference(inference_of_the_run):
    """An inference service that paints at once by default."""
    inference_of_the_run.forget()
    inference_of_the_run.orders.clear()
    return inference_of_the_run


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server_of_the_run(inference_of_the_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    async with embedded(folder, INFERENCE_SERVICE_URL=inference_of_the_run.url) as cluster:
        yield cluster


@pytest.fixture
def settings():
    """Settings for a server of this test only: `@pytest.mark.parametrize("settings", [{…}])`."""
    return


@in_session
async def cluster(settings, tmp_path, inference, server_of_the_run):
    """`darkroom up` without images. Tests without settings share one server, which saves a second or two each."""
    if settings is None:
        await delete_all(server_of_the_run.url)
        yield server_of_the_run
    else:
        async with embedded(tmp_path, INFERENCE_SERVICE_URL=inference.url, **settings) as cluster:
            yield cluster


async def delete_all(url: str) -> None:
    async with front_end(url) as client:
        while (await client.get("/api/images/history/?perPage=100&status=all"))[1]["total"]:
            _, page = await client.get("/api/images/history/?perPage=100&status=all")
            await asyncio.gather(*(client.ask("DELETE", f"/api/images/{image['id']}/") for image in page["images"]))


@in_session
async def api(cluster):
    """Another front end."""
    async with front_end(cluster.url) as client:
        yield client


@in_session
async def new_profile(browser, cluster):
    """Opens a new browser profile, with the options of playwright's `new_context`."""
    contexts: list[BrowserContext] = []

    async def open_profile(**options):
        context = await browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        return context

    yield open_profile
    for context in contexts:
        await context.close()


@in_session
async def new_visit(cluster, new_profile):
    """Opens tabs of one profile unless another is given. Any error of the browser fails the test."""
    visits = []
    shared: list[BrowserContext] = []

    async def open_visit(profile=None, *, is_open=True, **options) -> Visit:
        if profile is None:
            if not shared or options:
                shared.append(await new_profile(**options))
            profile = shared[-1]
        visit = Visit(await profile.new_page(), cluster.url + "/")
        visits.append(visit)
        return await visit.open() if is_open else visit

    yield open_visit
    complaints = [complaint for visit in visits for complaint in visit.complaints]
    assert complaints == []


@in_session
async def visit(new_visit):
    return await new_visit()
