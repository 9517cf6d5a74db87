"""The nodes of the fake ComfyUI take what those of version 0.8.0 take, whose description was recorded."""

import json

import pytest

from services.generator.inference.comfyui.nodes import NodeClass, NodeInput, parse_node_class
from services.generator.inference.comfyui.runnable import runnable_workflows
from services.generator.inference.comfyui.workflow import SHIPPED, read_workflow
from tests.engines.comfyui_nodes import CLASSES
from tests.engines.recorded import TRANSCRIPTS

MODELS = ("sd_xl_base_1.0.safetensors", "flux1-dev-fp8.safetensors")


def recorded() -> dict[str, NodeClass]:
    described = json.loads((TRANSCRIPTS / "comfyui-0.8.0/object_info.json").read_text())
    return {name: found for name in described if (found := parse_node_class(name, described))}


@pytest.mark.parametrize("name", CLASSES)
def test_a_node_takes_what_the_recorded_one_takes(name):
    ours, theirs = parse_node_class(name, {name: {"input": {"required": CLASSES[name]}}}), recorded()[name]

    assert ours
    assert ours.required == theirs.required
    for key, spec in ours.inputs.items():
        known = theirs.inputs[key]
        assert (spec.options is None) == (known.options is None)
        assert (spec.max, spec.step) == (known.max, known.step)


def test_shipped_workflows_run_on_the_recorded_nodes():
    classes = recorded()
    checkpoints = NodeClass({"ckpt_name": NodeInput(options=MODELS)}, frozenset(["ckpt_name"]))
    classes |= {"CheckpointLoaderSimple": checkpoints}

    found = runnable_workflows([read_workflow(name) for name in SHIPPED], classes, all_needed=True)

    assert {model.id for each in found for model in each.models} == set(MODELS)
    assert all("Euler" in each.samplers for each in found)
