"""Fields of a job that a server has no setting for: only the default of a request is accepted.

A request always has steps, a scale and a sampler, whether its owner chose them or not. So the default means nothing,
and any other value is refused by name, rather than ignored.
"""

from __future__ import annotations

from typing import Any, Final

from common.domain.errors import Rejected
from common.domain.requests import GenerationRequest
from services.generator.inference.job import Job

_DEFAULTS: Final[dict[str, Any]] = {
    name: GenerationRequest.model_fields[name].default for name in ("steps", "cfg_scale", "sampler", "hires_fix")
}
DEFAULT_SAMPLER: Final[str] = _DEFAULTS["sampler"]


def require_default(job: Job, name: str) -> None:
    """Refuse any value but the default of a request.

    Raises:
        Rejected: the text begins with the name of the field.
    """
    if getattr(job, name) != _DEFAULTS[name]:
        raise Rejected(
            f"{name}: the inference service has no such setting; it can be ordered as {_DEFAULTS[name]} only"
        )
