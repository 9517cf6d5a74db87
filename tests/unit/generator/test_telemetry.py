"""The span of a call to an inference service."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from services.generator.telemetry import span_of_inference
from tests.making import an_image
from tests.unit.common.runtime.test_tracing import spans

__all__ = ["spans"]
BACKEND: Any = SimpleNamespace(name="gpu1:8188", offered=SimpleNamespace(dialect="comfyui"))


@pytest.mark.parametrize("records_prompt", [False, True])
def test_prompts_are_recorded_only_if_asked_for(spans, records_prompt):
    image = an_image(prompt="a lighthouse", negative_prompt="fog", attempts=2)
    with span_of_inference(image, BACKEND, records_prompt=records_prompt):
        pass

    attributes = dict(spans.one("generate_content sdxl").attributes)
    messages = attributes.pop("gen_ai.input.messages", None)
    assert attributes == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.output.type": "image",
        "gen_ai.provider.name": "comfyui",
        "gen_ai.request.model": "sdxl",
        "gen_ai.request.seed": 7,
        "darkroom.backend": "gpu1:8188",
        "darkroom.attempt": 2,
    }
    if records_prompt:
        assert [part["content"] for part in json.loads(messages)[0]["parts"]] == ["a lighthouse", "fog"]
    else:
        assert messages is None
