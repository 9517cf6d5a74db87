"""Sign-in with a token, which is kept in the tab."""

import re
import time

import jwt
import pytest
from playwright.async_api import expect

SECRET = "a secret of a test, of 32 characters and more"
CLAIMS = {"iss": "https://identity.test", "aud": "darkroom"}
IDENTITY = pytest.mark.parametrize(
    "settings",
    [
        {
            "JWT_SECRET": SECRET,
            "JWT_ISSUER": CLAIMS["iss"],
            "JWT_AUDIENCE": CLAIMS["aud"],
            "JWT_LEEWAY": "0",
            "MEDIA_SIGNING_KEYS": "a-key-of-a-test-of-32-characters-and-more",
        }
    ],
)


@pytest.mark.long
@IDENTITY
async def test_a_signed_in_user_sees_only_their_own_images(new_visit, new_profile, settings):
    """A bad token is refused; Ada signs in, requests images in two tabs; Bob signs in and sees none of them."""
    ada = await new_visit(await new_profile(), is_open=False)
    ada.expect_refusals()
    await ada.page.goto(ada.url)
    await expect(ada.viewer).to_contain_text("You need an access token")
    await sign_in(ada, token("ada", secret="another secret, of 32 characters and more"))
    await expect(ada.viewer).to_contain_text("This token was not accepted")

    await sign_in(ada, token("ada"))

    await expect(ada.viewer).to_have_count(0)
    await ada.loaded()
    await ada.order("a picture of Ada's")
    await expect(ada.tile("a picture of Ada's")).to_be_visible()
    await expect(ada.tile("a picture of Ada's").locator("img")).to_have_attribute("src", re.compile("signature="))
    await ada.page.reload()
    await expect(ada.tile("a picture of Ada's")).to_be_visible()
    # live, by a ticket: another tab of the same person orders
    second = await new_visit(ada.page.context, is_open=False)
    second.expect_refusals()
    await second.page.goto(second.url)
    await sign_in(second, token("ada"))
    await second.loaded()
    await second.order("one more of Ada's")
    await expect(ada.tile("one more of Ada's")).to_be_visible()

    bob = await new_visit(await new_profile(), is_open=False)
    bob.expect_refusals()
    await bob.page.goto(bob.url)
    await sign_in(bob, token("bob"))
    await bob.loaded()
    await expect(bob.page.get_by_text("Nothing here yet")).to_be_visible()
    await bob.page.get_by_role("button", name="Sign out").click()
    await expect(bob.viewer).to_contain_text("You need an access token")


@pytest.mark.long
@IDENTITY
async def test_a_sign_in_forgets_the_prompts_of_others(new_visit, settings):
    """Ada closes her tab without signing out; then Bob signs in to the same browser."""
    ada = await new_visit(is_open=False)
    ada.expect_refusals()
    await ada.page.goto(ada.url)
    await sign_in(ada, token("ada"))
    await ada.loaded()
    await ada.order("a secret of Ada's")
    await expect(ada.page.get_by_role("button", name="Recent")).to_be_visible()
    await expect(ada.tile("a secret of Ada's")).to_be_visible()
    await ada.page.close()

    bob = await new_visit(is_open=False)
    bob.expect_refusals()
    await bob.page.goto(bob.url)
    await sign_in(bob, token("bob"))
    await bob.loaded()

    await expect(bob.page.get_by_text("Nothing here yet")).to_be_visible()
    await expect(bob.page.get_by_role("button", name="Recent")).to_have_count(0)
    assert await bob.page.evaluate("localStorage.getItem('darkroom.prompts')") is None


@IDENTITY
@pytest.mark.long
async def test_an_expired_token_is_asked_for_again(new_visit, settings):
    visit = await new_visit(is_open=False)
    visit.expect_refusals()
    await visit.page.goto(visit.url)
    await sign_in(visit, token("ada", lasts_s=3))
    await visit.loaded()
    await visit.prompt.fill("a long thought")

    await expect(visit.viewer).to_contain_text("This token was not accepted")
    await sign_in(visit, token("ada"))

    await expect(visit.prompt).to_have_value("a long thought")
    await visit.press("Control+Enter")
    await expect(visit.tile("a long thought")).to_be_visible()


async def sign_in(visit, credential: str) -> None:
    await visit.viewer.get_by_label("Access token").fill(credential)
    await visit.viewer.get_by_role("button", name="Sign in").click()


def token(owner: str, *, secret: str = SECRET, lasts_s: float = 600) -> str:
    now = time.time()
    return jwt.encode({**CLAIMS, "sub": owner, "iat": now, "exp": now + lasts_s}, secret, algorithm="HS256")
