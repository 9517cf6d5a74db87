"""The clock: what a step of it does to what is judged by it."""

import logging
from datetime import timedelta

import pytest

from common.runtime.clock import BELIEVED_AFTER_S, ManualClock, SystemClock


@pytest.mark.parametrize("step_s", [3600, -3600])
@pytest.mark.fault(row=17)
def test_a_step_is_accepted_only_after_a_while(step_s, caplog):
    clock, right = ManualClock(), ManualClock()

    def advance(seconds):
        clock.advance(seconds)
        right.advance(seconds)

    clock.stable_now()
    clock.step(step_s)
    with caplog.at_level(logging.WARNING):
        assert clock.stable_now() == right.now()
        advance(BELIEVED_AFTER_S - 1)
        assert clock.stable_now() == right.now()
    advance(1)

    assert clock.stable_now() == clock.now() != right.now()
    assert len(caplog.records) == 1
    assert f"{step_s:+d} s" in caplog.text


@pytest.mark.fault(row=17)
def test_a_step_that_is_reverted_in_time_is_ignored():
    clock = ManualClock()
    clock.step(3600)
    clock.stable_now()
    clock.advance(60)
    clock.step(-3600)
    clock.stable_now()
    clock.advance(BELIEVED_AFTER_S)

    assert clock.stable_now() == clock.now()


@pytest.mark.fault(row=17)
def test_a_second_step_waits_as_long_as_the_first():
    clock = ManualClock()
    clock.step(3600)
    clock.stable_now()
    clock.advance(BELIEVED_AFTER_S - 1)
    before = clock.stable_now()
    clock.step(-86400)
    clock.stable_now()
    clock.advance(2)

    assert clock.stable_now() == before + timedelta(seconds=2)


def test_small_differences_are_slewed_along():
    clock = ManualClock()
    for _ in range(10):
        clock.step(1)

        assert clock.stable_now() == clock.now()


def test_the_systems_clock_is_settled_from_its_start():
    clock = SystemClock()

    assert clock.now() <= clock.stable_now() <= clock.now()
