"""The model of the cog container in the tests: a picture whose colour depends on the seed.

It runs in the environment of cog, which has neither Pillow nor Darkroom. Words of the prompt choose what it does:
`slow` takes 0.1 s for each step, `fails` raises, `wide` makes a picture of another size, `no picture` returns a text.
"""

import hashlib
import struct
import tempfile
import time
import zlib
from pathlib import Path as FilePath

from cog import BasePredictor, Input, Path, streaming

SLOW_STEP_S = 0.1


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
        for step in range(1, num_inference_steps + 1):
            time.sleep(SLOW_STEP_S if "slow" in prompt else 0)
            print(f"{100 * step // num_inference_steps}%|#####| {step}/{num_inference_steps}", flush=True)
        if "fails" in prompt:
            raise ValueError("NSFW content detected")
        about = (prompt, negative_prompt, num_inference_steps, guidance_scale, scheduler, seed)
        file = FilePath(tempfile.mkdtemp()) / "out.png"
        size = (width + 8 if "wide" in prompt else width, height)
        file.write_bytes(
            b"text" if "no picture" in prompt else png(size, hashlib.sha256(repr(about).encode()).digest())
        )
        return Path(file)


def png(size: tuple[int, int], colour: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    row = b"\0" + colour[:3] * size[0]
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * size[1])), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
