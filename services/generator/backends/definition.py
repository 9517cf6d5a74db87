"""One back end, as the operator describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BackendDefinition:
    """One back end, as the operator describes it."""

    name: str  # unique in its generator
    url: str = field(repr=False)  # with the scheme of the dialect; it may hold a password
    concurrency: int  # images that this generator sends to it at once
    api_key: str | None = field(default=None, repr=False)
    models: Mapping[str, str] = field(default_factory=dict)  # ours ─▶ theirs; empty: all, under their own names
    workflows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of ComfyUI, by their model
    origin: str = "INFERENCE_SERVICE_URL"  # where it is configured, for the text of an error
