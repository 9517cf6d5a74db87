"""The last prompts of a browser: recalled by keys or by the list, removed."""

import pytest
from playwright.async_api import expect

from tests.browser.test_access import findings


@pytest.mark.long
async def test_recent_prompts_are_recalled_and_removed(visit):
    """Two are ordered; a draft survives the keys; after a reload, the list is used with the keyboard and the mouse."""
    for prompt in ("a first picture", "a second picture"):
        await visit.order(prompt)
        await expect(visit.tile(prompt)).to_be_visible()
    await visit.prompt.fill("a draft")
    for key, text in (
        ("Alt+ArrowUp", "a second picture"),
        ("Alt+ArrowUp", "a first picture"),
        ("Alt+ArrowUp", "a first picture"),
        ("Alt+ArrowDown", "a second picture"),
        ("Alt+ArrowDown", "a draft"),
    ):
        await visit.press(key)
        await expect(visit.prompt).to_have_value(text)

    await visit.page.reload()
    await visit.loaded()
    recent = visit.page.get_by_role("button", name="Recent")
    entries = visit.page.locator(".recall")
    await recent.click()
    await expect(entries).to_have_text(["a second picture", "a first picture"])
    await expect(entries.first).to_be_focused()
    assert await findings(visit) == []
    await visit.press("ArrowDown", "Enter")
    await expect(visit.prompt).to_have_value("a first picture")
    await expect(visit.prompt).to_be_focused()
    await expect(entries).to_have_count(0)

    await recent.click()
    await expect(entries.first).to_be_focused()
    await visit.press("Delete")
    await expect(entries).to_have_text(["a first picture"])
    await expect(entries).to_be_focused()
    await visit.press("Delete")
    await expect(recent).to_have_count(0)
    await expect(visit.prompt).to_be_focused()
    await visit.notices.get_by_role("button", name="Undo").last.click()
    await recent.click()
    await expect(entries).to_have_text(["a first picture"])
    await visit.page.get_by_role("button", name="Remove: a first picture").click()
    await expect(recent).to_have_count(0)
    assert await visit.page.evaluate("localStorage.getItem('darkroom.prompts')") is None


@pytest.mark.long
async def test_removing_all_prompts_can_be_undone(visit):
    """One is ordered meanwhile: the undo keeps it, before those that come back."""
    for prompt in ("a first picture", "a second picture"):
        await visit.order(prompt)
        await expect(visit.tile(prompt)).to_be_visible()
    recent = visit.page.get_by_role("button", name="Recent")

    await recent.click()
    await visit.page.get_by_role("button", name="Remove all").click()
    await expect(recent).to_have_count(0)
    await visit.order("a third picture")
    await visit.notices.get_by_role("button", name="Undo").click()

    await recent.click()
    await expect(visit.page.locator(".recall")).to_have_text(["a third picture", "a second picture", "a first picture"])
