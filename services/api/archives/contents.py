"""What a zip file of pictures holds: the pictures with a file of their settings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from common.domain.file_names import picture_name, unlike
from common.domain.images import Image, Status
from common.domain.views import iso
from common.media.port import Media
from common.store.port import Store
from services.api.archives.zip_format import ZipWriter
from services.api.middleware.patient_writes import PIECE

PAGE: Final = 50  # records that are read at once
SETTINGS_NAME: Final = "settings.json"


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    store: Store
    media: Media

    async def completed(self, owner: str, ids: Sequence[str]) -> list[Image]:
        """Those of the images that have a picture and belong to the owner, in the order of the ids."""
        found = await self.store.get_several(ids)
        images = [found[image_id] for image_id in ids if image_id in found]
        return [image for image in images if image.owner == owner and is_downloadable(image)]

    async def pieces(self, owner: str, ids: Sequence[str], *, now: datetime) -> AsyncGenerator[bytes]:
        """The bytes of the zip file, at most one picture in memory. A picture that is gone meanwhile is left out."""
        writer, taken, described = ZipWriter(), {SETTINGS_NAME}, list[dict[str, Any]]()
        waiting = iter(ids)
        while some := list(islice(waiting, PAGE)):
            for image in await self.completed(owner, some):
                content = await self.media.get(image.image_file or "")
                if content is None:
                    described.append(_settings(image, None))
                    continue
                name = unlike(picture_name(image), taken)
                described.append(_settings(image, name))
                yield await asyncio.to_thread(writer.header, name, content, at=image.created_at)
                for start in range(0, len(content), PIECE):
                    yield content[start : start + PIECE]
        listed = json.dumps(described, ensure_ascii=False, indent=2).encode()
        yield writer.header(SETTINGS_NAME, listed, at=now) + listed
        yield writer.end()


def is_downloadable(image: Image) -> bool:
    return image.status is Status.COMPLETED and image.deleted_at is None and image.image_file is not None


def _settings(image: Image, name: str | None) -> dict[str, Any]:
    """The settings of a picture, named as in a request; `file` is null if its file is lost."""
    parameters = image.parameters
    return {
        "file": name,
        "id": image.id,
        "prompt": image.prompt,
        "negativePrompt": image.negative_prompt,
        "model": image.model,
        "width": image.width,
        "height": image.height,
        "steps": parameters.steps,
        "cfgScale": parameters.cfg_scale,
        "sampler": parameters.sampler,
        "seed": parameters.seed,
        "hiresFix": parameters.hires_fix,
        "createdAt": iso(image.created_at),
    }
