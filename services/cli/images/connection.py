"""The client of the commands about images, as patient as a person in front of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Final

from darkroom_client import Darkroom, DarkroomError, LimitReached, Retries, Unreachable
from services.cli.console import INTERRUPTED, ignore_closed_stdout, load_settings, print_message
from services.cli.images.failures import failure_of
from services.cli.images.interrupts import heard_interrupts
from services.cli.images.progress import end_line
from services.cli.server import token_of, url_of

POLL_S: Final = 2.0  # without an event for this long the record is read: an event may be missed, the record counts
PATIENCE_S: Final = 60.0  # without any answer while the image is waited for: a server restarts in less
REPEATS_S: Final = (1.0, 3.0, 6.0)  # before the same request is sent again, with the same key
HANDSHAKE_S: Final = 10.0  # then the websocket does without


def run(
    arguments: argparse.Namespace, action: Callable[[Darkroom], int], *, on_interrupt: str = "stopped by Ctrl-C"
) -> int:
    """Run the action with a client of the server that the options name; returns the exit status.

    Raises:
        CommandFailed: with the reason.
    """
    settings = load_settings()
    url, token = url_of(arguments, settings), token_of(arguments, settings)
    try:
        with heard_interrupts(), _opened(url, token) as darkroom:
            status = action(darkroom)
            sys.stdout.flush()
            return status
    except DarkroomError as error:
        raise failure_of(error) from error
    except KeyboardInterrupt:
        end_line()
        print_message(on_interrupt)
        return INTERRUPTED
    except BrokenPipeError:
        ignore_closed_stdout()
        return 1


def _opened(url: str, token: str | None) -> Darkroom:
    # a person waits in front of it: a server that is down or a limit that is reached is said at once
    retries = Retries(delays_s=REPEATS_S, jitter=0, patience_s=PATIENCE_S, never=(LimitReached, Unreachable))
    return Darkroom(
        url,
        token=token or "",
        retries=retries,
        trust_env=False,  # proxies of the environment do not count; SSL_CERT_FILE does
        handshake_s=HANDSHAKE_S,
        poll_s=POLL_S,
    )
