"""The tiles of the gallery: what they load, what their deletion shows."""

import pytest
from playwright.async_api import expect

from tests.browser.gallery_pictures import add_images, until_there_are
from tests.browser.visit import is_painted

LARGE = {"width": 1024, "height": 1024}


@pytest.mark.long
async def test_twelve_deletions_are_one_notice_with_one_undo(api, visit):
    await add_images(api, 14)
    await expect(visit.tiles).to_have_count(14)
    await visit.tiles.first.focus()

    for _ in range(12):
        await visit.press("Delete")

    await expect(visit.tiles).to_have_count(2)
    await expect(visit.notices.locator(".notice")).to_have_count(1)
    await expect(visit.notices).to_contain_text("12 pictures deleted")
    await visit.notices.get_by_role("button", name="Undo all").click()
    await expect(visit.tiles).to_have_count(14)
    await visit.tiles.first.focus()
    await visit.press("Delete")
    await expect(visit.notices).to_contain_text("Picture deleted")
    await visit.notices.get_by_role("button", name="Dismiss").click()
    await until_there_are(api, 13)


@pytest.mark.long
@pytest.mark.parametrize(("density", "size"), [(1, {"width": 1280, "height": 720}), (2, LARGE)])
async def test_tiles_are_as_sharp_as_they_are_drawn(api, new_visit, density, size):
    await add_images(api, 3, **size)
    visit = await new_visit(device_scale_factor=density)
    await expect(visit.tiles).to_have_count(3)

    for image in await visit.tiles.locator("img").all():
        assert await is_painted(image)
        drawn = await image.evaluate("image => image.getBoundingClientRect().width * devicePixelRatio")
        source = await image.evaluate(
            "async image => { const i = new Image(); i.src = image.currentSrc;"
            "await i.decode(); return i.naturalWidth; }"
        )
        assert source >= min(drawn * 0.95, size["width"])
    assert [url for url in visit.requests if "/renditions/" in url]
    assert not [url for url in visit.requests if "/generated_images/" in url]


@pytest.mark.long
async def test_a_removed_tile_loads_no_file(api, visit):
    await add_images(api, 2, **LARGE)
    await expect(visit.tiles).to_have_count(2)
    await is_painted(visit.tiles.last.locator("img"))
    await visit.tiles.first.focus()
    before = len([url for url in visit.requests if "/media/" in url])

    await visit.press("Delete")
    await expect(visit.tiles).to_have_count(1)
    await visit.press("Delete")
    await expect(visit.tiles).to_have_count(0)

    await visit.notices.get_by_role("button", name="Dismiss").click()
    await until_there_are(api, 0)
    assert [url for url in visit.requests if "/media/" in url][before:] == []
