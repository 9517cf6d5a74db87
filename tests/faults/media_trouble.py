"""A media folder that turns read-only or goes away, for the running services, without a change of its files.

read-only    a bind mount of the folder over itself, remounted read-only; needs the right to mount
gone         the folder and a plain file swap their names, in one step, so that nobody can make the folder again
"""

import ctypes
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2  # renameat2(2): both names change at once
BUSY_LIMIT_S = 5.0  # a file that is being written keeps its mount writable


class MediaTrouble:
    """Breaks and repairs the media folder of a round; `repair` may be called at any time."""

    def __init__(self, media: Path) -> None:
        self._media = media
        self._aside = media.with_name(f"{media.name}-aside")
        self._repair: Callable[[], None] | None = None

    def make_read_only(self) -> bool:
        """False where this process may not mount."""
        if not _succeeds("mount", "--bind", str(self._media), str(self._media)):
            return False
        self._repair = self._unmount
        deadline = time.monotonic() + BUSY_LIMIT_S
        while not _succeeds("mount", "-o", "remount,bind,ro", str(self._media)):
            if time.monotonic() > deadline:
                self.repair()
                return False
        return True

    def take_away(self) -> None:
        self._aside.touch()
        self._swap()
        self._repair = self._put_back

    def repair(self) -> None:
        repair, self._repair = self._repair, None
        if repair is not None:
            repair()

    def _unmount(self) -> None:
        # lazily: a file that is being read must not keep the folder read-only
        subprocess.run(["umount", "--lazy", str(self._media)], check=True, capture_output=True)

    def _put_back(self) -> None:
        self._swap()
        self._aside.unlink()

    def _swap(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        names = os.fsencode(self._media), os.fsencode(self._aside)
        if libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE):
            raise OSError(ctypes.get_errno(), "the media folder cannot be swapped")


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
