"""The job that a back end gets: one attempt to paint one image."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from common.domain.errors import BadImage
from common.domain.images import Format, Image

_NAMESPACE: Final = uuid.UUID("6f0c6e0a-5d0b-5d5e-9b61-3f4f6f1a2c77")  # of remote ids; random, and never changes


@dataclass(frozen=True, slots=True)
class Job:
    """What to paint. All fields come from the record, so each worker makes the same job of it.

    Inputs (a first image with its strength, a mask, references) will be one more field, a tuple of named bytes that is
    empty for a job made of text alone.
    """

    image_id: str
    remote_id: str  # a UUID, the name of the work at a server that lets its client choose it
    refused: int  # results and runs under earlier remote ids that gave no usable picture
    prompt: str
    negative_prompt: str  # empty: none
    model: str
    width: int  # pixels
    height: int
    steps: int
    cfg_scale: float
    sampler: str
    seed: int  # 0 to 2³² - 1
    hires_fix: bool
    wanted_format: Format | None = None  # the client's wish, which a server need not follow


def job_of(image: Image, *, deployment: str) -> Job:
    """The job of this record; `deployment` keeps apart the ids of two deployments with one inference service.

    The remote id does not depend on the attempt: the next worker finds the work of one that was killed.
    """
    refused = image.refused
    if not refused and image.error is not None and image.error.code == BadImage.code:
        refused = 1  # a record of version 0.2.0, which did not count them
    return Job(
        image_id=image.id,
        remote_id=str(uuid.uuid5(_NAMESPACE, f"{deployment}/{image.id}/{refused}")),
        refused=refused,
        prompt=image.prompt,
        negative_prompt=image.negative_prompt,
        model=image.model,
        width=image.width,
        height=image.height,
        wanted_format=image.wanted_format,
        **image.parameters.model_dump(),
    )
