"""An image is its id in canonical form in every route too."""

import pytest

from tests.borders.http.conftest import ORDERS
from tests.cluster import ORDER

pytestmark = pytest.mark.border(rule="A1")


async def an_image_of(api) -> str:
    return (await api.ask("POST", ORDERS, json=ORDER, headers={"Prefer": "respond-async"}))[2]["id"]


@pytest.mark.parametrize("spelling", [str.upper, str.title, lambda text: text[:18].upper() + text[18:]])
async def test_every_route_takes_an_id_in_capitals(serve, spelling):
    async with serve() as api:
        image_id = await an_image_of(api)
        path = f"/api/images/{spelling(image_id)}/"

        assert (await api.ask("GET", path))[2]["id"] == image_id
        assert (await api.ask("PATCH", path, json={"pinned": True}))[2]["pinned"]
        assert (await api.ask("POST", f"{path}cancel/"))[0] == 200
        assert (await api.ask("GET", path))[2]["status"] == "cancelled"
        assert (await api.ask("DELETE", path))[0] == 204
        assert [(await api.ask("GET", each))[0] for each in (path, path.lower())] == [404, 404]


@pytest.mark.parametrize(
    "spelling",
    ["%7B{id}%7D", "urn:uuid:{id}", "{hex}", "{id}%20", "%EF%BC%90{rest}", "{id}%0A", "{id}0", "..", "%00", "{id}%2F"],
)
async def test_another_spelling_is_no_image(serve, spelling):
    async with serve() as api:
        image_id = await an_image_of(api)
        path = spelling.format(id=image_id, hex=image_id.replace("-", ""), rest=image_id[1:])
        for method, end in (("GET", ""), ("DELETE", ""), ("POST", "cancel/")):
            reader, writer = await api.send(f"{method} /api/images/{path}/{end} HTTP/1.1", "Connection: close")
            status = int((await reader.read()).split()[1])
            writer.close()
            assert status in {400, 404, 405}, method

        assert (await api.ask("GET", f"/api/images/{image_id}/"))[2]["status"] == "queued"
