"""The span of a call to an inference service, by OpenTelemetry's semantic conventions for generative AI.

They know no pictures yet: `gen_ai.operation.name` is `generate_content`, `gen_ai.output.type` is `image`.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager

from common.domain.images import Image
from common.runtime.tracing.spans import Attribute, Span, SpanKind, is_on, span
from services.generator.backends.backend import Backend


def span_of_inference(image: Image, backend: Backend, *, records_prompt: bool) -> AbstractContextManager[Span]:
    """The span in which the back end paints this claimed image; its requests carry the `traceparent` of it."""
    name = f"generate_content {image.model}"
    return span(name, SpanKind.CLIENT, _attributes(image, backend, records_prompt) if is_on() else None)


def _attributes(image: Image, backend: Backend, records_prompt: bool) -> dict[str, Attribute]:
    dialect = backend.offered.dialect if backend.offered is not None else None
    found: dict[str, Attribute] = {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.output.type": "image",
        "gen_ai.provider.name": dialect or "darkroom",
        "gen_ai.request.model": image.model,
        "gen_ai.request.seed": image.parameters.seed,
        "darkroom.backend": backend.name,
        "darkroom.attempt": image.attempts,
    }
    if records_prompt:
        parts = [{"type": "text", "content": text} for text in (image.prompt, image.negative_prompt) if text]
        found["gen_ai.input.messages"] = json.dumps([{"role": "user", "parts": parts}], ensure_ascii=False)
    return found
