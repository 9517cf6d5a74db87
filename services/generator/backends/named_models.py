"""A back end whose models have other names here than on its server."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from common.application.capabilities import Capabilities, Model
from common.domain.errors import Denied, Rejected, Transient, Unreachable
from common.runtime.logs import OncePerKey
from services.generator.inference.job import Job
from services.generator.inference.port import GeneratedImage, InferenceBackend, OnPreview, OnProgress

log = logging.getLogger(__name__)

_MAX_LISTED = 20
_logged = OncePerKey()


class NamedModels:
    """Offers only the models that have a name of ours; `names` maps ours to theirs."""

    def __init__(self, inner: InferenceBackend, names: Mapping[str, str]) -> None:
        self._inner = inner
        self._names = names

    async def capabilities(self, *, fresh: bool = False) -> Capabilities:
        return renamed(await self._inner.capabilities(fresh=fresh), self._names)

    async def generate(self, job: Job, on_progress: OnProgress, on_preview: OnPreview | None = None) -> GeneratedImage:
        theirs = self._theirs(job)
        with suppress(Unreachable, Transient):
            await self.capabilities()  # Denied: wrong names are the operator's mistake, and the server would refuse all
        painted = await self._inner.generate(theirs, on_progress, on_preview)
        return replace(painted, model=job.model) if painted.model is not None else painted

    async def stop(self, job: Job) -> None:
        await self._inner.stop(self._theirs(job))

    def _theirs(self, job: Job) -> Job:
        if (theirs := self._names.get(job.model)) is None:
            raise Rejected(f"model: {job.model!r} is not one of the models of this back end")
        return replace(job, model=theirs)


def renamed(found: Capabilities, names: Mapping[str, str]) -> Capabilities:
    """The capabilities under our names.

    Raises:
        Denied: the server lists its models, and has none of these.
    """
    by_name = {model.id: model for model in found.models}
    models, missing = [], []
    for ours, theirs in names.items():
        if theirs in by_name or not by_name:
            models.append(by_name.get(theirs, Model(id=theirs)).model_copy(update={"id": ours}))
        else:
            missing.append(theirs)
    if missing:
        reason = f"the server does not have the models {_listed(missing)}; it has {_listed(list(by_name))}"
        if not models:
            raise Denied(reason)
        if _logged.is_new(reason):
            log.warning("%s", reason)
    return found.model_copy(update={"models": tuple(models)})


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
