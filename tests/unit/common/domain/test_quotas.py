"""The hourly window of one owner."""

from datetime import timedelta

import pytest

from common.domain.errors import LimitReached
from common.domain.images import Failure, Status
from common.domain.quotas import Window, available_in_s, does_not_count, reserve
from tests.making import NOON, an_image


def filled(count):
    window = Window()
    for number in range(count):
        window = reserve(window, str(number), now=NOON + timedelta(minutes=number), limit=50)
    return window


def test_beyond_the_limit_the_answer_says_when_to_retry():
    window = filled(50)

    with pytest.raises(LimitReached) as refused:
        reserve(window, "one more", now=NOON + timedelta(minutes=50), limit=50)
    assert (refused.value.code, refused.value.retry_after_s) == ("hourly_limit", 600)


def test_a_refused_batch_is_told_what_is_left():
    with pytest.raises(LimitReached) as refused:
        reserve(filled(47), *"abcd", now=NOON + timedelta(minutes=50), limit=50)

    assert (refused.value.left, refused.value.retry_after_s) == (3, 600)
    assert "3 are left, and 4 are requested" in refused.value.detail


def test_an_image_fits_again_when_the_oldest_has_left():
    window = reserve(filled(50), "one more", now=NOON + timedelta(minutes=60), limit=50)

    assert len(window.entries) == 50
    assert window.ids[0] == "1"


def test_the_same_image_counts_once():
    window = filled(3)

    assert reserve(window, "1", now=NOON + timedelta(minutes=3), limit=50) == window


def test_a_lowered_limit_waits_until_enough_images_have_left():
    assert available_in_s(filled(5), now=NOON + timedelta(minutes=4), limit=2) == 59 * 60


@pytest.mark.parametrize(
    ("code", "free"), [("inference_failed", True), ("deadline", True), ("inference_refused", False)]
)
def test_a_failure_of_the_service_does_not_count(code, free):
    image = an_image(status=Status.FAILED, error=Failure(code=code, detail=""))

    assert does_not_count(image) is free
