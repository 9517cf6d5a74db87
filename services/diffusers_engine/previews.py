"""Previews of an unfinished picture: its latents as colours, by a linear map instead of the VAE."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import torch
from PIL import Image

from services.inference.engine import Preview

SIDE: Final = 256  # pixels of the longer side
_SAMPLES: Final = 4  # pictures from which the map is learned


@dataclass(frozen=True, slots=True)
class LatentColours:
    """The linear map of a VAE from latents to colours, (channels + 1) × 3; the last row is the constant part.

    One cell of the latents is 8 × 8 pixels. The map is learned from the VAE itself, by encoding pictures of smooth
    colours. So it fits any VAE, and takes one encoding of a few small pictures at the load of a model.
    """

    weights: torch.Tensor

    @classmethod
    def of(cls, vae: Any) -> LatentColours:
        """Called before the VAE is moved to its device: it computes in float32 here, whatever its type is."""
        generator, dtype = torch.Generator("cpu").manual_seed(0), vae.dtype
        spots = torch.rand(_SAMPLES, 3, 5, 5, generator=generator)
        pictures = torch.nn.functional.interpolate(spots, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
        vae.to(torch.float32)
        with torch.no_grad():
            latents = vae.encode(pictures * 2 - 1).latent_dist.mode()
        vae.to(dtype)
        latents = (latents - (vae.config.shift_factor or 0)) * vae.config.scaling_factor
        colours = torch.nn.functional.adaptive_avg_pool2d(pictures, tuple(latents.shape[-2:]))
        return cls(torch.linalg.lstsq(_with_constant(latents), _as_rows(colours)).solution)

    def preview(self, latents: torch.Tensor, size: tuple[int, int]) -> Preview:
        """A JPEG of latents (1, channels, rows, columns) with the aspect ratio of `size`."""
        latents = latents.detach().to("cpu", torch.float32)
        # At the start they are mostly noise, whose deviation is up to 15 with some samplers.
        latents = latents / latents.std().clamp(min=1)
        colours = (_with_constant(latents) @ self.weights).nan_to_num().clamp(0, 1)
        rows, columns = latents.shape[-2:]
        pixels = (colours.reshape(rows, columns, 3) * 255).to(torch.uint8)
        image = Image.frombytes("RGB", (columns, rows), pixels.numpy().tobytes())
        scale = SIDE / max(size)
        small = image.resize((max(1, round(size[0] * scale)), max(1, round(size[1] * scale))), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        small.save(file, "jpeg", quality=80)
        return Preview(content=file.getvalue(), format="jpeg")


def unpacked(latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Latents of Flux, (1, cells of 16 × 16 pixels, 4 × channels), as those of the other families."""
    columns, rows = size[0] // 16, size[1] // 16
    squares = latents.reshape(1, rows, columns, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(1, -1, rows * 2, columns * 2)


def _as_rows(maps: torch.Tensor) -> torch.Tensor:
    """(n, channels, rows, columns) as (n × rows × columns, channels)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _with_constant(latents: torch.Tensor) -> torch.Tensor:
    rows = _as_rows(latents)
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
