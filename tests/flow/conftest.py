"""All of Darkroom, in both ways it runs."""

import pytest
import pytest_asyncio

from darkroom_client import AsyncDarkroom
from tests.cluster import embedded, front_end, separate

SEPARATE = pytest.param("separate", marks=pytest.mark.rabbitmq)  # its broker is requested by value, which sets no mark


@pytest_asyncio.fixture(params=["embedded", SEPARATE], scope="module", loop_scope="module")
async def cluster(request, tmp_path_factory):
    """Running services: all in one process, or each alone on a real RabbitMQ with two generators.

    The scenarios of a module share it, as users of one installation do: starting it costs more than most of them.
    """
    folder = tmp_path_factory.mktemp(request.param)
    slow = {"PAINTER_STEP_DELAY": "0.02"}  # an image of many steps outlasts what a test does with it
    if request.param == "embedded":
        opened = embedded(folder, **slow)
    else:
        opened = separate(folder, request.getfixturevalue("rabbitmq_of_the_run").fresh_vhost(), **slow)
    async with opened as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def page(cluster):
    async with front_end(cluster.url) as page:
        yield page


@pytest_asyncio.fixture(loop_scope="module")
async def darkroom(cluster):
    """The client library, for what is not about the form of answers."""
    async with AsyncDarkroom(cluster.url, trust_env=False) as darkroom:
        yield darkroom
