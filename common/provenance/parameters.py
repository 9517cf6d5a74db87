"""The settings of an image as the text that AUTOMATIC1111 writes into its pictures, which many programs read.

    a lighthouse
    Negative prompt: people
    Steps: 30, Sampler: Euler, CFG scale: 7.5, Seed: 7, Size: 1024x1024, Model: sdxl, Version: Darkroom

`Hires fix` and `Prompt lines` are ours. The latter is there only if a line of a prompt begins as the second line does.
"""

from __future__ import annotations

import json
from typing import Final

from common.domain.images import Image

_NEGATIVE: Final = "Negative prompt:"


def text_of(image: Image) -> str:
    """The settings with which the image can be made again."""
    parameters = image.parameters
    lines = image.prompt.split("\n")
    fields = {
        "Steps": parameters.steps,
        "Sampler": parameters.sampler,
        "CFG scale": f"{parameters.cfg_scale!r}".removesuffix(".0"),
        "Seed": parameters.seed,
        "Size": f"{image.width}x{image.height}",
        "Model": image.model,
        **({"Hires fix": True} if parameters.hires_fix else {}),
        **({"Prompt lines": len(lines)} if any(line.strip().startswith(_NEGATIVE) for line in lines) else {}),
        "Version": "Darkroom",
    }
    negative = [f"{_NEGATIVE} {image.negative_prompt}"] if image.negative_prompt else []
    settings = ", ".join(f"{name}: {_quoted(str(value))}" for name, value in fields.items())
    return "\n".join([image.prompt, *negative, settings])


def is_settings(text: str) -> bool:
    """Whether the text, of a comment that may be about anything, has settings."""
    return "Steps: " in text


def _quoted(text: str) -> str:
    """As A1111 quotes a value that has one of its separators."""
    return json.dumps(text, ensure_ascii=False) if set(text) & set(',:\n"') else text
