"""The model of the cog server in the tests: a picture whose colour depends on the inputs.

It runs in the environment of cog, which has neither Pillow nor Darkroom. Files in `control/` beside it choose
what it does, see tests/servers/cog.py; there it writes what it did. A prompt with `slow` takes 0.1 s for each step.
"""

import hashlib
import os
import struct
import tempfile
import time
import zlib
from pathlib import Path as FilePath

from cog import BasePredictor, CancelationException, Input, Path, streaming

CONTROL = FilePath(__file__).parent / "control"
SLOW_STEP_S = 0.1
LARGE = 3_000_000  # bytes


class CogPredictor(BasePredictor):
    """What `cog predict` would run; the inputs stand in .cog/openapi_schema.json, as `cog build` writes them."""

    def setup(self):
        """There are no weights."""

    @streaming
    def predict(
        self,
        prompt: str = Input(description="what to paint"),
        negative_prompt: str = Input(default=""),
        width: int = Input(default=512),
        height: int = Input(default=512),
        num_inference_steps: int = Input(default=20),
        guidance_scale: float = Input(default=7.5),
        scheduler: str = Input(default="K_EULER"),
        seed: int = Input(default=0),
    ) -> Path:
        about = (prompt, negative_prompt, num_inference_steps, guidance_scale, scheduler, seed)
        note(f"began {seed}")
        try:
            self._paint(prompt, num_inference_steps)
        except CancelationException:
            note(f"stopped {seed}")
            raise
        note(f"painted {seed}")
        return Path(written((width, height), hashlib.sha256(repr(about).encode()).digest()))

    def _paint(self, prompt, steps):
        for step in range(1, steps + 1):
            time.sleep(SLOW_STEP_S if "slow" in prompt else 0)
            print(f"{100 * step // steps}%|#####| {step}/{steps}", flush=True)
            while step == 1 and (CONTROL / "hold").exists():
                (CONTROL / "held").touch()
                time.sleep(0.005)
            while fault() in {"silent", "restart"}:
                time.sleep(0.005)
        if fault() == "error_inside":
            raise ValueError("NSFW content detected")


def fault() -> str:
    file = CONTROL / "fault"
    return file.read_text() if file.exists() else ""


def note(line: str) -> None:
    with (CONTROL / "journal").open("a") as journal:
        journal.write(f"{line}\n")


def written(size: tuple[int, int], colour: bytes) -> FilePath:
    """The file of the picture, or of what the fault makes of it."""
    content = png((size[0] + 8, size[1]) if fault() == "wrong_size" else size, colour)
    content = {"no_picture": b"text", "oversized": os.urandom(LARGE)}.get(fault(), content)
    file = FilePath(tempfile.mkdtemp()) / "out.png"
    file.write_bytes(content)
    return file


def png(size: tuple[int, int], colour: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    row = b"\0" + colour[:3] * size[0]
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * size[1])), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
