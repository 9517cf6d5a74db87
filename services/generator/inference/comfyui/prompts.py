"""The syntax inside of prompts that ComfyUI executes.

`(word:1.2)` weighs a word, and `embedding:name` adds a textual inversion from the server's folder: people want both.
A name that leads out of that folder is refused, since servers of some versions would open it.
"""

from __future__ import annotations

import re
from typing import Final

from common.domain.errors import Rejected
from services.generator.inference.job import Job

# the name ends at white space or a comma (ComfyUI, sd1_clip.py)
_EMBEDDING: Final = re.compile(r"embedding:([^\s,]*)", re.IGNORECASE)
_OUTSIDE: Final = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|$)|^[/\\~]|^[a-z]:[/\\]", re.IGNORECASE)


def require_harmless(job: Job) -> None:
    """Raises Rejected, with the name of the field: it names a file outside of the folder of embeddings."""
    for field, text in (("prompt", job.prompt), ("negative_prompt", job.negative_prompt)):
        for name in _EMBEDDING.findall(text):
            if _OUTSIDE.search(name):
                raise Rejected(f"{field}: an embedding is named without a path outside of its folder")
