"""The completion of `darkroom` in real shells, by presses of Tab in a terminal."""

import os
import pty
import re
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.cli.main import main
from tests.conftest import missing
from tests.waiting import LIMIT_S

# how a shell is started, and what loads the script as docs/cli.md says
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source ./script"),
    "zsh": (["zsh", "-f", "-i"], 'autoload -U compinit; compinit -u -D; eval "$(cat ./script)"'),
}
TYPED = {  # Tab is pressed at each \t; it adds the space after a whole word
    "darkroom hist\t--stat\tfai\t-n 5 --js\t": "darkroom history --status failed -n 5 --json",
    "darkroom completion z\t": "darkroom completion zsh",
    "darkroom generate x --hi\t-o a-pic\t": "darkroom generate x --hires-fix -o a-picture.png",
    "darkroom keys cre\tada --exp\t": "darkroom keys create ada --expires",
}


class Terminal:
    """A terminal with a shell in it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._shown = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def until(self, wanted: str) -> None:
        """Wait until the terminal shows this after what was waited for before, with any number of spaces."""
        pattern = re.compile(r"\s+".join(map(re.escape, wanted.split())))
        ends_at = time.monotonic() + LIMIT_S
        while (found := pattern.search(self._shown)) is None:
            left_s = ends_at - time.monotonic()
            assert left_s > 0, f"{wanted!r} is not in {self._shown!r}"
            if select.select([self._fd], [], [], left_s)[0]:
                self._shown += os.read(self._fd, 4096).decode(errors="replace")
                self._shown = re.sub("[^\b]\b", "", self._shown)  # zsh moves back and writes again
        self._shown = self._shown[found.end() :]


@contextmanager
def terminal(command: list[str], folder: Path) -> Iterator[Terminal]:
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder)
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "COLUMNS": "200"}
        os.execvpe(command[0], command, environment)
    try:
        yield Terminal(fd)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_the_command(shell, tmp_path, capsys):
    if shutil.which(shell) is None:
        missing(f"{shell} is not installed")
    command, load = SHELLS[shell]
    assert main(["completion", shell]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "a-picture.png").touch()

    with terminal(command, tmp_path) as shown:
        shown.type(f"{load}; PS1='ready> '; echo loa''ded\n")
        shown.until("loaded")
        for typed, completed in TYPED.items():
            shown.until("ready>")
            shown.type(typed)
            shown.until(completed)
            shown.type("\x15\n")  # Ctrl-U empties the line


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["completion", "fish"])

    assert ended.value.code == 2
