"""The whole of Darkroom, in each of the two ways it runs."""

import pytest

from tests.house import embedded, front_end, separate


@pytest.fixture(params=["embedded", "separate"])
async def house(request, tmp_path):
    """Running services: all in one process, or each alone on a real RabbitMQ with two generators."""
    is_embedded = request.param == "embedded"
    opened = embedded(tmp_path) if is_embedded else separate(tmp_path, request.getfixturevalue("vhost"))
    async with opened as house:
        yield house


@pytest.fixture
async def page(house):
    async with front_end(house.url) as page:
        yield page
