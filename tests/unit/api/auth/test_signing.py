"""The signed URL of a picture: how long it stays the same, how long it stays valid."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from aiohttp.test_utils import make_mocked_request
from yarl import URL

from common.runtime.clock import ManualClock
from common.runtime.reading_settings import read_settings
from services.api.auth.signing import Signing
from tests.security.callers import SIGNING, settings_of

OTHER = "another-signing-secret-of-the-tests-0123456789"
START = datetime(2025, 1, 15, 12, tzinfo=UTC)
KEYS = [f"generated_images/2025/01/{number:08d}-0000-7000-8000-000000000000.png" for number in range(100)]


def signing(clock, **settings):
    return Signing(read_settings(settings_of() | settings), clock)


def allows(signing, url):
    path = URL(url)
    request = make_mocked_request("GET", url)
    request.match_info["key"] = path.path.removeprefix("/media/")
    return signing.allows(request)


def test_a_url_changes_every_six_hours_and_is_valid_for_longer():
    clock = ManualClock(START)
    signer = signing(clock)
    first = signer.url(f"/media/{KEYS[0]}")
    shown, changes, valid_until = first, [], 0

    for minute in range(0, 24 * 60, 10):
        clock.advance(600)
        if (now := signer.url(f"/media/{KEYS[0]}")) != shown:
            shown = now
            changes.append(minute)
        if allows(signer, first):
            valid_until = minute

    assert {later - earlier for earlier, later in pairwise(changes)} == {360}
    assert changes[0] + 350 <= valid_until <= changes[0] + 360, "six hours longer than it was shown"


def test_not_all_urls_change_at_once():
    clock = ManualClock(START)
    signer = signing(clock)
    before = {key: signer.url(f"/media/{key}") for key in KEYS}

    clock.advance(3600)

    changed = sum(signer.url(f"/media/{key}") != url for key, url in before.items())
    assert 5 < changed < 35


def test_keys_are_rotated_without_broken_urls():
    clock = ManualClock(START)
    old, both, new = (signing(clock, MEDIA_SIGNING_KEYS=keys) for keys in (SIGNING, f"{OTHER},{SIGNING}", OTHER))
    by_old, by_both = old.url(f"/media/{KEYS[0]}"), both.url(f"/media/{KEYS[0]}")

    assert allows(both, by_old)
    assert allows(new, by_both), "the first key signs"
    assert not allows(new, by_old)
    assert not allows(old, by_both)


def test_without_identity_nothing_is_signed():
    clock = ManualClock(START)
    signer = Signing(read_settings({"MEDIA_SIGNING_KEYS": SIGNING}), clock)

    assert signer.url("/media/x.png") == "/media/x.png"
    assert not allows(signer, signing(clock).url(f"/media/{KEYS[0]}"))


def test_media_of_another_host_are_signed_by_their_key():
    clock = ManualClock(START)
    there = signing(clock, MEDIA_URL="https://cdn.example.org/pictures/")

    url = there.url(f"https://cdn.example.org/pictures/{KEYS[0]}")

    assert url.startswith(f"https://cdn.example.org/pictures/{KEYS[0]}?expires=")
    assert allows(there, f"/media/{KEYS[0]}?{URL(url).query_string}")


def test_a_url_is_valid_for_at_least_its_age():
    clock = ManualClock(START)
    signer = signing(clock, MEDIA_URL_AGE="60")
    url = signer.url(f"/media/{KEYS[0]}")

    clock.advance(timedelta(seconds=60).total_seconds())

    assert allows(signer, url)
    clock.advance(61)
    assert not allows(signer, url)
