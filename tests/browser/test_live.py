"""The page after an outage of the network or the server."""

import pytest
from playwright.async_api import expect

from tests.browser.inference_stub import InferenceStub

OWN_SERVER = pytest.mark.parametrize("settings", [{}])


@pytest.mark.long
@OWN_SERVER
async def test_the_page_survives_a_server_restart_without_reload(visit, inference, cluster, settings):
    inference_stub = InferenceStub()
    inference.will(inference_stub)
    card = await visit.order("a picture through thick and thin")
    inference_stub.step(1, 4)
    await expect(card).to_contain_text("step 1 of 4")
    visit.expect_offline()

    await cluster.services["up"].kill()
    await expect(visit.offline).to_be_visible()
    # requested while the server is down: sent once, when it is up
    late = await visit.order("a picture ordered in the dark")
    await expect(late).to_contain_text("The server cannot be reached")
    await cluster.start()

    await expect(visit.offline).to_have_count(0)
    await expect(visit.tile("a picture through thick and thin")).to_be_visible(timeout=20_000)
    await expect(visit.tile("a picture ordered in the dark")).to_be_visible(timeout=20_000)
    await expect(visit.tiles).to_have_count(2)
    await visit.page.reload()
    await visit.loaded()
    await expect(visit.tiles).to_have_count(2)


@pytest.mark.long
@OWN_SERVER
async def test_changes_during_a_server_restart_are_shown(visit, cluster, api, settings):
    await visit.order("a picture that will go")
    await expect(visit.tile("a picture that will go")).to_be_visible()
    (gone,) = (await api.get("/api/images/history/"))[1]["images"]
    visit.expect_offline()
    # the page loses the network, not the server
    await visit.page.context.set_offline(True)
    await visit.page.evaluate("window.dispatchEvent(new Event('offline'))")
    await expect(visit.offline).to_be_visible()

    await cluster.services["up"].stop()
    await cluster.start()
    await api.ask("DELETE", f"/api/images/{gone['id']}/")
    new = await api.order(prompt="a picture nobody saw coming")
    await api.final(new["id"])
    await visit.page.context.set_offline(False)

    await expect(visit.tile("a picture nobody saw coming")).to_be_visible()
    await expect(visit.tile("a picture that will go")).to_have_count(0)


@pytest.mark.long
async def test_a_page_resumes_after_its_last_event(visit, api):
    visit.expect_offline()
    await visit.order("a picture before")
    await expect(visit.tile("a picture before")).to_be_visible()
    sockets = []
    visit.page.on("websocket", lambda socket: sockets.append(socket.url))
    await visit.page.context.set_offline(True)
    await visit.page.evaluate("window.dispatchEvent(new Event('offline'))")
    await expect(visit.offline).to_be_visible()
    histories = [url for url in visit.requests if "/history/" in url]

    image = await api.order(prompt="a picture meanwhile")
    await api.final(image["id"])
    await visit.page.context.set_offline(False)

    await expect(visit.tile("a picture meanwhile")).to_be_visible()
    assert "?after=" in sockets[-1]
    assert [url for url in visit.requests if "/history/" in url] == histories, "the events are enough"


async def test_two_tabs_agree(new_visit, inference):
    one, other = await new_visit(), await new_visit()
    inference_stub = InferenceStub()
    inference.will(inference_stub)

    await one.order("a shared picture")

    await expect(other.card("a shared picture")).to_be_visible()
    inference_stub.step(3, 6)
    for visit in (one, other):
        await expect(visit.card("a shared picture").get_by_role("progressbar")).to_have_attribute("aria-valuenow", "50")
    await other.card("a shared picture").get_by_role("button", name="Cancel").click()
    for visit in (one, other):
        await expect(visit.cards).to_have_count(0)


@pytest.mark.long
@OWN_SERVER
async def test_a_lost_answer_leads_to_one_image(visit, cluster, api, settings):
    visit.expect_offline()

    async def lose(route):
        await route.fetch()
        await route.abort()

    await visit.page.route("**/v1/images/generations", lose, times=1)

    await visit.order("one picture only")

    await expect(visit.tile("one picture only")).to_be_visible()
    await expect(visit.cards).to_have_count(1)
    assert (await api.get("/api/images/history/?status=all"))[1]["total"] == 1
