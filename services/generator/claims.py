"""The claim of an image by this worker, for one of its back ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from common.domain import images, transitions
from common.domain.errors import NotFound
from common.domain.images import Image
from common.messages import GenerateImage
from services.generator.context import GenerationContext, retry_while_unavailable


async def claimable(command: GenerateImage, context: GenerationContext) -> Image:
    """The record, if a claim would be accepted now: an image that nobody may paint waits for no back end.

    Raises:
        Invalid, NotFound, InvalidTransition: as a claim.
    """
    image_id = images.parse_image_id(command.id)
    image = await retry_while_unavailable(lambda: context.store.get(image_id))
    if image is None:
        raise NotFound(f"there is no image {image_id}", code="image_not_found")
    _claiming(None, context)(image)
    return image


async def claim(image: Image, backend: str, context: GenerationContext) -> Image:
    """The image with a lease that names the back end; or a failed one, if too many workers were lost with it.

    Raises:
        NotFound, InvalidTransition: it has changed since it was read.
    """
    return await context.transition(image.id, _claiming(backend, context), snapshot=image)


def _claiming(backend: str | None, context: GenerationContext) -> Callable[[Image], Image]:
    return partial(
        transitions.claim,
        lease=context.new_lease(backend),
        now=context.clock.stable_now(),
        deadline=timedelta(seconds=context.settings.generation_deadline),
    )
