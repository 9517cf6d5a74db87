"""Ctrl-C in a moment in which Python ignores it."""

import gc
import signal
import sys
from typing import Any

import pytest

from services.cli.images.interrupts import heard_interrupts


class InterruptedAtItsEnd:
    def __del__(self) -> None:
        raise KeyboardInterrupt


class BrokenAtItsEnd:
    def __del__(self) -> None:
        raise ValueError("broken")


@pytest.mark.timeout(method="thread")  # the other method has the same timer
def test_an_interrupt_in_a_destructor_is_heard():
    hook = sys.unraisablehook

    with pytest.raises(KeyboardInterrupt), heard_interrupts():  # noqa: PT012  # it comes again while we wait
        InterruptedAtItsEnd()
        signal.pause()

    assert sys.unraisablehook == hook
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) != signal.default_int_handler


def test_other_errors_in_destructors_are_reported_as_before(monkeypatch):
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)

    with heard_interrupts():
        BrokenAtItsEnd()
        gc.collect()

    assert [each.exc_type for each in reported] == [ValueError]
    reported.clear()  # it refers to the object
