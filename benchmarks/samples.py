"""The images of the stub inference service: 1024 × 1024 pixels, the same bytes each time."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from PIL import Image

SIDE = 1024


def noisy_png() -> bytes:
    """A gradient under noise: as hard to pack as a photograph."""
    return _encoded(_noisy(), "PNG")


def smooth_png() -> bytes:
    """Three gradients: as easy to pack as a drawing."""
    across = Image.linear_gradient("L").resize((SIDE, SIDE))
    round_about = Image.radial_gradient("L").resize((SIDE, SIDE))
    return _encoded(Image.merge("RGB", (across, round_about, across.rotate(90))), "PNG")


def jpeg() -> bytes:
    return _encoded(_noisy(), "JPEG", quality=90)


SAMPLES: dict[str, Callable[[], bytes]] = {"noisy PNG": noisy_png, "smooth PNG": smooth_png, "JPEG": jpeg}


def _noisy() -> Image.Image:
    gradient = Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB")
    return Image.blend(gradient, Image.effect_noise((SIDE, SIDE), 40).convert("RGB"), 0.3)


def _encoded(picture: Image.Image, image_format: str, **how: Any) -> bytes:
    out = BytesIO()
    picture.save(out, image_format, **how)
    return out.getvalue()
