"""When a request is sent again, and how long that takes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from darkroom_client.effects import Operation, T, sleep
from darkroom_client.errors import ApiError, DarkroomError, LimitReached, NoAnswer, Redirected, TlsFailed

_PASSING_STATUS = frozenset({408, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient a client is.

    A request is sent again after each of `delays_s`, then its error is raised. `Retry-After` makes a delay longer; if
    it is longer than `longest_wait_s`, the error is raised at once. While an accepted image is waited for, the server
    may be silent for `patience_s`: restarts take less. Errors of the types `never` are raised at once.
    """

    delays_s: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    jitter: float = 0.25  # of a delay: clients that failed together do not come back together
    longest_wait_s: float = 60.0
    patience_s: float = 60.0
    never: tuple[type[DarkroomError], ...] = ()

    def pause_s(self, attempt: int, error: DarkroomError) -> float | None:
        """The pause after this failed attempt, counted from 0; None if there is no other attempt."""
        if attempt >= len(self.delays_s) or not self.is_passing(error):
            return None
        return self.spread_s(self.delays_s[attempt], error)

    def spread_s(self, delay_s: float, error: DarkroomError) -> float:
        """The delay with jitter, and no shorter than the server asks for."""
        return max(delay_s, asked_s(error)) + random.uniform(0, self.jitter) * delay_s  # no secret

    def is_passing(self, error: DarkroomError) -> bool:
        """Whether the same request may be answered soon."""
        if isinstance(error, self.never):
            return False
        if isinstance(error, ApiError):
            is_soon = asked_s(error) <= self.longest_wait_s
            if isinstance(error, LimitReached):
                return is_soon and error.retry_after_s is not None
            return is_soon and error.status in _PASSING_STATUS
        return isinstance(error, NoAnswer) and error.is_passing

    def is_outwaited(self, error: DarkroomError, *, silent_s: float) -> bool:
        """Whether an accepted image is still waited for after this error, `silent_s` after the last answer.

        A restart or a proxy may cause any other error, also one of `never`.
        """
        if silent_s > self.patience_s or isinstance(error, Redirected | TlsFailed):
            return False
        return isinstance(error, NoAnswer | LimitReached) or self.is_passing(error)


def asked_s(error: DarkroomError | None) -> float:
    """The pause that the server asks for with `Retry-After`."""
    return (error.retry_after_s or 0.0) if isinstance(error, ApiError) else 0.0


def repeated(
    retries: Retries, attempt: Callable[[], Operation[T]], *, left_s: Callable[[], float] = lambda: math.inf
) -> Operation[T]:
    """The result of an operation that is repeated while its error may pass, and while there is time left."""
    number = 0
    while True:
        try:
            return (yield from attempt())
        except DarkroomError as error:
            pause_s = retries.pause_s(number, error)
            if pause_s is None or pause_s > left_s():
                raise
        number += 1
        yield from sleep(pause_s)
