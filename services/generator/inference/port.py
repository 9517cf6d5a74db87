"""The port to an inference back end, a server that paints images.

The docstrings are the contract that `tests/contract/test_inference.py` runs over each implementation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from common.domain.images import Image

OnProgress = Callable[[int, int], None]  # steps done, steps in all; not checked
OnPreview = Callable[[bytes], None]  # an encoded picture of the current state; not checked


class InferenceBackend(Protocol):
    async def paint(self, image: Image, on_progress: OnProgress, on_preview: OnPreview | None = None) -> bytes:
        """Paint the image; returns the encoded picture, which the caller still has to check.

        The callbacks report the progress, if the server does; without `on_preview`, previews are ignored.
        Cancelling the call stops the work on the server.

        Raises:
            Unreachable: the server refuses the connection, or its name does not resolve.
            Transient: it timed out, broke off or is busy; `retry_after_s` is the wait that it asks for.
            Rejected: it refuses this request, and always will.
            Denied: it refuses every request of this generator: its key, its certificate or its URL is wrong.
            BadImage: its answer is not a picture, or is larger than allowed.
        """

    async def is_reachable(self) -> bool:
        """Ask the server now; True unless it does not answer, or answers with an error of its own (5xx)."""
