"""The rate limit headers, in the form of the draft."""

from datetime import timedelta

from common.domain.quotas import Window
from common.runtime.settings import Settings
from services.api.limits.ratelimit import policy_header, remaining_header
from tests.making import NOON

LIMITED = Settings(requests_per_hour=50, concurrent_requests=2)
UNLIMITED = Settings(requests_per_hour=0, concurrent_requests=0)


def test_the_policy_names_each_limit():
    policy = policy_header(LIMITED)

    assert policy == {"RateLimit-Policy": '"hour";q=50;w=3600, "concurrent";q=2;qu="concurrent-requests"'}


def test_without_limits_there_is_no_header():
    window = Window(((NOON, "image"),))

    assert policy_header(UNLIMITED) == {}
    assert remaining_header(window, settings=UNLIMITED, now=NOON) == {}


def test_the_remaining_images_of_the_hour_are_counted():
    window = Window(((NOON, "one"), (NOON + timedelta(minutes=10), "two")))

    header = remaining_header(window, settings=LIMITED, now=NOON + timedelta(minutes=20))

    assert header == {"RateLimit": '"hour";r=48;t=2400'}
