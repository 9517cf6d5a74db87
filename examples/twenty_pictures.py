"""Orders twenty pictures at once, shows one progress bar, and writes the files.

DARKROOM_URL=http://127.0.0.1:8000 python examples/twenty_pictures.py "a lighthouse at dusk" pictures/
"""

import asyncio
import sys
from pathlib import Path

from darkroom_client import AsyncDarkroom, Completed, DarkroomError, Failed, Progress

COUNT = 20
WIDTH = 40  # characters of the bar


class Bar:
    """The sum of the progress of all pictures."""

    def __init__(self, count: int) -> None:
        self.done = dict.fromkeys(range(count), 0.0)

    def set(self, number: int, share: float) -> None:
        self.done[number] = share
        total = sum(self.done.values()) / len(self.done)
        sys.stderr.write(f"\r[{'#' * int(WIDTH * total):<{WIDTH}}] {total:4.0%}")


async def picture(darkroom: AsyncDarkroom, prompt: str, number: int, folder: Path, bar: Bar) -> Path | None:
    try:
        handle = await darkroom.submit(prompt, seed=number, width=512, height=512)
        async for event in handle.events():
            match event:
                case Progress(step=step, steps=steps):
                    bar.set(number, 0.95 * step / steps)
                case Completed(image=image):
                    return await darkroom.save(image, folder / f"{number:02}.png")
                case Failed(image=image):
                    sys.stderr.write(f"\nnumber {number} failed: {image.error.detail if image.error else 'unknown'}\n")
    except DarkroomError as error:
        sys.stderr.write(f"\nnumber {number}: {error}\n")
    finally:
        bar.set(number, 1.0)
    return None


async def main(prompt: str, folder: Path) -> int:
    bar = Bar(COUNT)
    async with AsyncDarkroom() as darkroom:
        files = await asyncio.gather(*(picture(darkroom, prompt, number, folder, bar) for number in range(COUNT)))
    sys.stderr.write("\n")
    written = [file for file in files if file is not None]
    print(f"{len(written)} of {COUNT} pictures are in {folder}")
    return 0 if len(written) == COUNT else 1


if __name__ == "__main__":
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    sys.exit(asyncio.run(main(sys.argv[1], target)))
