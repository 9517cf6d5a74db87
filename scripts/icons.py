"""`python scripts/icons.py`: draws the icons of the playground page, as playground/favicon.svg has them, as PNG files.

A browser installs a page with PNG icons of fixed sizes, and cuts a shape of the system out of a "maskable" one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw

FOLDER: Final = Path(__file__).parents[1] / "services" / "api" / "playground" / "icons"
GROUND: Final = "#171312"
LAMP: Final = "#ff6a45"
RING: Final = "#683123"  # the lamp at 35 % on the ground
UNITS: Final = 32  # the viewBox of favicon.svg: the lengths below are its units
CORNER: Final = 8.0
LAMP_RADIUS: Final = 7.0
RING_RADIUS: Final = 11.5
RING_WIDTH: Final = 1.5
SMOOTHING: Final = 4  # drawn this many times larger, then reduced: Pillow draws hard edges
SAFE: Final = 0.8  # of a maskable icon: what is further out than 40 % of the width may be cut off


@dataclass(frozen=True)
class Icon:
    size: int
    is_full: bool = False  # no rounded corners, because the system cuts a shape out of it
    scale: float = 1.0


ICONS: Final = {
    "icon-192.png": Icon(192),
    "icon-512.png": Icon(512),
    "icon-maskable-512.png": Icon(512, is_full=True, scale=SAFE),
    "apple-touch-icon.png": Icon(180, is_full=True, scale=SAFE),
}


def draw(icon: Icon) -> Image.Image:
    unit = icon.size * SMOOTHING / UNITS
    whole = icon.size * SMOOTHING
    image = Image.new("RGBA", (whole, whole))
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((0, 0, whole - 1, whole - 1), radius=0 if icon.is_full else CORNER * unit, fill=GROUND)

    def circle(radius: float, colour: str) -> None:
        length = radius * icon.scale * unit
        pen.ellipse((whole / 2 - length, whole / 2 - length, whole / 2 + length, whole / 2 + length), fill=colour)

    circle(RING_RADIUS + RING_WIDTH / 2, RING)
    circle(RING_RADIUS - RING_WIDTH / 2, GROUND)
    circle(LAMP_RADIUS, LAMP)
    small = image.resize((icon.size, icon.size), Image.Resampling.BOX)
    return small.convert("RGB") if icon.is_full else small


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, icon in ICONS.items():
        draw(icon).save(FOLDER / name, optimize=True)
        print(FOLDER / name)


if __name__ == "__main__":
    main()
