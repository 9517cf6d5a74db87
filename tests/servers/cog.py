"""A real cog server from PyPI, in an environment of its own: cog's HTTP server without a container around it.

`make servers` makes the environment. It is no dependency: Darkroom only speaks to such servers.
"""

import atexit
import functools
import json
import os
import shutil
import tempfile
import time
import urllib.request
from importlib.metadata import distributions
from pathlib import Path

from tests.servers.process import Process, free_ports

ENVIRONMENT = Path(__file__).parents[2] / ".venv-cog"
MODEL = Path(__file__).parent / "cog_model"
START_LIMIT_S = 20.0  # 0.4 to 1 s on an idle machine


def version() -> str | None:
    """The version that is installed; None if there is none."""
    folders = [str(folder) for folder in ENVIRONMENT.glob("lib/python*/site-packages")]
    return next((each.version for each in distributions(name="cog", path=folders)), None)


@functools.cache
def server_of_the_run() -> "CogServer":
    """The server that all tests of this process share; started by the first one."""
    server = CogServer()
    atexit.register(server.close)
    return server


class CogServer:
    """One server with the model of tests/servers/cog_model; `url` stays the same after a restart.

    The test and the model share the folder `control`:

        hold      the model waits after its first step while this file is there, and makes the file `held`
        fault     the name of an EngineFault that the model can make
        journal   what the model did, with seeds: `began 7`, `painted 7`, `stopped 7`
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="darkroom-cog-"))
        shutil.copytree(MODEL, self._folder / "model")
        self.control = self._folder / "model" / "control"
        self.reset()
        self._port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def reset(self) -> None:
        """Begin with an empty journal, without a fault."""
        shutil.rmtree(self.control, ignore_errors=True)
        self.control.mkdir()
        (self.control / "journal").touch()

    def seeds(self, what: str) -> list[int]:
        """The seeds in the journal: `began`, `painted` or `stopped`."""
        lines = (line.split() for line in (self.control / "journal").read_text().splitlines())
        return [int(seed) for word, seed in lines if word == what]

    def start(self) -> None:
        """Start it; returns when it is ready."""
        self._process = Process(
            [str(ENVIRONMENT / "bin" / "python"), "-m", "cog.server.http", "--host", "127.0.0.1"],
            folder=self._folder / "model",
            env={
                "COG_PREDICT_TYPE_STUB": "predict.py:CogPredictor",
                "HOME": str(self._folder),
                "PORT": str(self._port),
                # without its own environment first, the worker finds no cog and the server stays STARTING
                "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}",
                "TMPDIR": str(self._folder),
            },
            log=self._folder / "output",
        )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it has started, or until its one slot is free."""
        deadline = time.monotonic() + START_LIMIT_S
        while not self.is_ready:
            if time.monotonic() > deadline or not self._process.is_running:
                raise RuntimeError(f"cog did not start: {(self._folder / 'output').read_text()[-2000:]}")
            time.sleep(0.02)

    @property
    def is_ready(self) -> bool:
        return self._status() == "READY"

    def _status(self) -> str | None:
        try:
            with urllib.request.urlopen(f"{self.url}/health-check", timeout=2) as response:
                status: str = json.load(response)["status"]
                return status
        except OSError:
            return None

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
