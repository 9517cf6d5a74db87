"""The selection of pictures in the gallery with what is done to it."""

import json
import zipfile

import pytest
from playwright.async_api import expect

from tests.browser.gallery_pictures import add_images, until_there_are
from tests.browser.test_access import PHONE


def selected(visit):
    return visit.page.locator("#gallery li.selected button[data-id]")


@pytest.mark.long
async def test_several_pictures_are_deleted_with_one_undo(api, visit):
    """A click with Ctrl, one with Shift, a delete, its undo, and the delete again."""
    await add_images(api, 6)
    await expect(visit.tiles).to_have_count(6)
    await visit.tile("picture 5").click(modifiers=["ControlOrMeta"])
    await visit.tile("picture 2").click(modifiers=["Shift"])
    await expect(selected(visit)).to_have_count(4)
    await visit.tile("picture 4").click()
    await expect(visit.page.get_by_role("toolbar")).to_contain_text("3 selected")

    await visit.page.get_by_role("button", name="Delete").click()
    await expect(visit.tiles).to_have_count(3)
    await expect(visit.page.get_by_role("toolbar")).to_have_count(0)
    await visit.notices.get_by_role("button", name="Undo all").click()
    await expect(visit.tiles).to_have_count(6)

    await visit.tiles.first.focus()
    await visit.press("Control+a", "Delete")
    await expect(visit.tiles).to_have_count(0)
    await expect(visit.notices.locator(".notice")).to_have_count(1)
    await visit.notices.get_by_role("button", name="Dismiss").click()
    await until_there_are(api, 0)


@pytest.mark.long
async def test_several_pictures_are_downloaded_as_one_file(api, visit, tmp_path):
    """All of a day are selected by its heading, pinned, and downloaded."""
    await add_images(api, 3, seed=7)
    await expect(visit.tiles).to_have_count(3)
    await visit.page.locator("#gallery h3").hover()
    await visit.page.get_by_role("button", name="Select all of Today").click()
    await expect(selected(visit)).to_have_count(3)

    async with visit.page.expect_download() as started:
        await visit.page.get_by_role("button", name="Download").click()
    download = await started.value
    await download.save_as(tmp_path / "found.zip")
    await visit.page.get_by_role("button", name="Pin", exact=True).click()

    assert download.suggested_filename.endswith("-3-pictures.zip")
    with zipfile.ZipFile(tmp_path / "found.zip") as found:
        assert found.testzip() is None
        assert found.namelist() == [*(f"picture-{n}-7.png" for n in (2, 1, 0)), "settings.json"]
        assert [each["seed"] for each in json.loads(found.read("settings.json"))] == [7] * 3
    await expect(visit.page.locator("#gallery [aria-label$=', pinned']")).to_have_count(3)
    await expect(visit.notices).to_contain_text("3 pictures pinned")


@pytest.mark.long
async def test_two_pictures_are_compared(api, visit):
    """Their differing settings are marked; the address opens the comparison, and Back closes it."""
    await add_images(api, 2, seed=7)
    await expect(visit.tiles).to_have_count(2)
    await visit.tiles.first.focus()
    await visit.press("Space", "Shift+ArrowRight")
    await visit.page.get_by_role("toolbar").get_by_role("button", name="Compare").click()

    await expect(visit.viewer.locator("tr.differs")).to_have_count(1)
    await expect(visit.viewer.locator("tr.differs")).to_contain_text("picture 0")
    await expect(visit.viewer.locator("figure img")).to_have_count(2)
    await visit.page.reload()
    await expect(visit.viewer.locator("tr.differs")).to_have_count(1)
    await visit.page.go_back()
    await expect(visit.viewer).to_have_count(0)


@pytest.mark.long
async def test_a_finger_that_rests_selects(api, new_visit):
    await add_images(api, 3)
    visit = await new_visit(**PHONE)
    tile = visit.tile("picture 1")
    await tile.scroll_into_view_if_needed()

    await tile.dispatch_event("pointerdown", {"pointerType": "touch", "clientX": 9, "clientY": 9})
    await expect(selected(visit)).to_have_count(1)
    await tile.dispatch_event("pointerup")
    await tile.dispatch_event("click")
    await expect(selected(visit)).to_have_count(1)
    await visit.tile("picture 2").tap()
    await expect(selected(visit)).to_have_count(2)
    await visit.page.get_by_role("button", name="Clear the selection").click()
    await expect(selected(visit)).to_have_count(0)
