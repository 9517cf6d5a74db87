"""Workflows of single models, as the file of BACKENDS chooses them."""

import json
import logging
from importlib import resources

import aiohttp
import pytest

from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from services.generator.backends.backend import connected
from services.generator.backends.configured import configured_backends
from tests.engines.comfyui import comfyui
from tests.making import a_job

SHIPPED = resources.files("services.generator.inference.comfyui").joinpath("workflows", "sd.json")


@pytest.fixture
async def made(tmp_path):
    """A fake with two checkpoints, and a back end that paints one of them with a workflow of its own."""
    workflow = json.loads(SHIPPED.read_text())
    sampler = next(node for node in workflow["graph"].values() if node["class_type"] == "KSampler")
    sampler["inputs"]["denoise"] = 0.75
    workflow["models"] = ["*none*"]
    (tmp_path / "soft [1].json").write_text(json.dumps(workflow))
    async with comfyui() as fake, aiohttp.ClientSession() as http:
        fake.checkpoints = ["a[1].safetensors", "b.safetensors"]
        path = tmp_path / "backends.toml"
        path.write_text(
            f'[[backends]]\nname = "left"\nurl = "comfyui+{fake.url}"\n'
            'models = {soft = "a[1].safetensors", plain = "b.safetensors"}\nworkflows = {soft = "soft [1].json"}\n'
        )
        settings = read_settings({"BACKENDS": str(path)})
        (definition,) = configured_backends(settings)
        yield fake, connected(definition, http=http, settings=settings, clock=SystemClock())


def denoise(graph) -> float:
    return next(node["inputs"]["denoise"] for node in graph.values() if node["class_type"] == "KSampler")


async def test_a_model_is_painted_by_its_own_workflow(made):
    fake, backend = made
    offered = await backend.capabilities()
    for name in ("soft", "plain"):
        await backend.generate(a_job(model=name), lambda *_: None)

    assert [model.id for model in offered.models] == ["soft", "plain"]
    soft, plain = fake.graphs.values()
    assert (denoise(soft), denoise(plain)) == (0.75, 1)
    assert ("a[1].safetensors" in str(soft), "b.safetensors" in str(plain)) == (True, True)


async def test_a_model_whose_workflow_cannot_run_is_left_out(made, caplog):
    """It was chosen for its model, so no other workflow takes its place. The other model is painted as before."""
    fake, backend = made
    fake.checkpoints = ["b.safetensors"]
    with caplog.at_level(logging.INFO):
        offered = await backend.capabilities(fresh=True)

    assert [model.id for model in offered.models] == ["plain"]
    assert "soft [1].json" in caplog.text
