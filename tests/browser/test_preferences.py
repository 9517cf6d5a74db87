"""The preferences of a browser: theme, notifications of finished pictures."""

import pytest
from playwright.async_api import expect

from tests.browser.inference_stub import InferenceStub
from tests.browser.test_access import findings
from tests.inference_double import status

WATCH_FRAMES = """
    window.grounds = new Set();
    const watch = () => {
        grounds.add(getComputedStyle(document.documentElement).backgroundColor);
        requestAnimationFrame(watch);
    };
    requestAnimationFrame(watch);
"""
# A headless Chromium has no notifications, and no window that can be hidden.
HIDING = """
    let [permission, isHidden] = ["default", false];
    window.asked = 0;
    window.shown = [];
    window.hide = (hidden) => {
        isHidden = hidden;
        document.dispatchEvent(new Event("visibilitychange"));
    };
    Object.defineProperty(document, "hidden", { get: () => isHidden });
    Object.defineProperty(Notification, "permission", { get: () => permission });
    Notification.requestPermission = async () => {
        asked += 1;
        permission = "granted";
    };
    ServiceWorkerRegistration.prototype.showNotification = async (title, { body }) => shown.push([title, body]);
"""
CLICK = """async (data) => {
    const focused = [];
    WindowClient.prototype.focus = async function () { focused.push(this.url); };
    const click = new ExtendableEvent("notificationclick");
    let isClosed = false;
    let work;
    click.notification = { data, close: () => { isClosed = true; } };
    click.waitUntil = (promise) => { work = promise; };
    self.dispatchEvent(click);
    await work;
    return { isClosed, focused };
}"""
REGISTER = """async () => {
    const registration = await navigator.serviceWorker.register("playground/worker.js");
    const worker = registration.installing ?? registration.waiting ?? registration.active;
    if (worker.state !== "activated") await new Promise((done) => worker.addEventListener("statechange", done));
}"""
LIGHT, DARK = "rgb(245, 243, 240)", "rgb(15, 13, 12)"


@pytest.mark.long
async def test_a_chosen_theme_is_kept_and_never_flashes(new_visit):
    visit = await new_visit(color_scheme="dark")
    root = visit.page.locator("html")
    await expect(root).to_have_css("background-color", DARK)

    await visit.page.get_by_role("button", name="Preferences").click()
    await visit.page.get_by_role("radio", name="Light").check()

    await expect(root).to_have_css("background-color", LIGHT)
    assert await findings(visit) == []
    await visit.page.add_init_script(WATCH_FRAMES)
    await visit.page.reload()
    await visit.loaded()
    assert await visit.page.evaluate("[...grounds]") == [LIGHT]
    await expect(root).to_have_css("color-scheme", "light")
    bars = await visit.page.locator("meta[name=theme-color]").evaluate_all("bars => bars.map((bar) => bar.content)")
    assert bars == ["#f5f3f0", "#f5f3f0"]

    await visit.page.get_by_role("button", name="Preferences").click()
    await visit.page.get_by_role("radio", name="System").check()
    await expect(root).to_have_css("background-color", DARK)
    assert await visit.page.evaluate("localStorage.getItem('darkroom.theme')") is None


@pytest.mark.long
async def test_a_hidden_page_tells_what_has_ended(api, new_visit, inference):
    """By the title always, by a notification only if the user wants it, and only for requests of this tab."""
    visit = await new_visit(is_open=False)
    await visit.page.add_init_script(HIDING)
    await visit.open()

    inference.will(stub := InferenceStub())
    await expect(await visit.order("a picture without permission")).to_contain_text("so far")
    await visit.page.evaluate("hide(true)")
    stub.finish()
    await expect(visit.page).to_have_title("1 done – Darkroom")
    await visit.page.evaluate("hide(false)")
    await expect(visit.page).to_have_title("Darkroom")
    assert await visit.page.evaluate("[asked, shown]") == [0, []]

    await visit.page.get_by_role("button", name="Preferences").click()
    await visit.page.get_by_role("switch", name="Notifications").check()
    await visit.press("Escape")
    inference.will(stub := InferenceStub())
    await expect(await visit.order("a picture to hear of")).to_contain_text("so far")
    await visit.page.evaluate("hide(true)")
    await api.order(prompt="a picture of another tab")
    await expect(visit.tile("a picture of another tab")).to_be_visible()
    stub.finish()
    await visit.page.wait_for_function("() => shown.length > 0")
    inference.will(status(400))
    await visit.order("a picture that is refused")
    await expect(visit.page).to_have_title("1 done, 1 failed – Darkroom")
    await visit.page.wait_for_function("() => shown.length > 1")

    assert await visit.page.evaluate("[asked, shown]") == [
        1,
        [
            ["Picture done", "a picture to hear of"],
            ["Picture failed", "The image service refused this request. a picture that is refused"],
        ],
    ]


@pytest.mark.long
async def test_a_click_on_a_notification_opens_the_picture(api, new_visit):
    """The worker of the page gets the event of a click; the browser's own notification is faked."""
    visit = await new_visit(permissions=["notifications"])
    await api.order(prompt="a picture to be opened", steps=1)
    await expect(visit.tile("a picture to be opened")).to_be_visible()
    (image,) = (await api.get("/api/images/history/"))[1]["images"]
    async with visit.page.context.expect_event("serviceworker"):
        await visit.page.evaluate(REGISTER)
    worker = visit.page.context.service_workers[0]

    outcome = await worker.evaluate(CLICK, {"id": image["id"], "page": visit.url})

    assert outcome == {"isClosed": True, "focused": [visit.url]}
    await expect(visit.viewer).to_contain_text("a picture to be opened")
