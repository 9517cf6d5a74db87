"""The clock: how a step of the wall clock affects `stable_now`."""

import logging
from datetime import timedelta

import pytest

from common.runtime.clock import STEP_ACCEPTED_AFTER_S, ManualClock, SystemClock


@pytest.mark.fault(row=17)
@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_step_is_accepted_only_after_a_while(step_s, caplog):
    clock, right = ManualClock(), ManualClock()

    def advance(seconds):
        clock.advance(seconds)
        right.advance(seconds)

    clock.stable_now()
    clock.step(step_s)
    with caplog.at_level(logging.WARNING):
        assert clock.stable_now() == right.now()
        advance(STEP_ACCEPTED_AFTER_S - 1)
        assert clock.stable_now() == right.now()
    advance(1)

    assert clock.stable_now() == clock.now() != right.now()
    assert len(caplog.records) == 1
    assert f"{step_s:+d} s" in caplog.text


@pytest.mark.fault(row=17)
def test_a_step_corrected_in_time_is_never_accepted():
    clock = ManualClock()
    clock.step(3600)
    clock.stable_now()
    clock.advance(60)
    clock.step(-3600)
    clock.stable_now()
    clock.advance(STEP_ACCEPTED_AFTER_S)

    assert clock.stable_now() == clock.now()


@pytest.mark.fault(row=17)
def test_a_second_step_starts_a_new_wait():
    clock = ManualClock()
    clock.step(3600)
    clock.stable_now()
    clock.advance(STEP_ACCEPTED_AFTER_S - 1)
    before = clock.stable_now()
    clock.step(-86400)
    clock.stable_now()
    clock.advance(2)

    assert clock.stable_now() == before + timedelta(seconds=2)


def test_small_differences_are_followed_at_once():
    clock = ManualClock()
    for _ in range(10):
        clock.step(1)

        assert clock.stable_now() == clock.now()


def test_the_system_clock_starts_without_a_step():
    clock = SystemClock()

    assert clock.now() <= clock.stable_now() <= clock.now()
