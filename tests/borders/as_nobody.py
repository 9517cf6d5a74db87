"""A child process of another user, for the tests of files and folders without rights. The tests run as root."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65_534
ROOT = Path(__file__).parents[2]
START = """
import asyncio, os, sys
import common.media.connect, common.runtime.reading_settings  # first: the user may not be able to read the packages
os.setgroups([]), os.setgid({user}), os.setuid({user})
try:
    {code}
except Exception as error:
    print(repr(error))
"""


def as_nobody(code: str, *arguments: object) -> str:
    """What the code prints."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    command = [sys.executable, "-c", START.format(user=NOBODY, code=code), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
