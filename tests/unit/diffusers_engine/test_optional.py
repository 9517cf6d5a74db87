"""Darkroom without the packages of the extra `diffusers`."""

import subprocess
import sys

import pytest

from common.domain.errors import Misconfigured
from common.runtime.reading_settings import read_settings
from services import wiring
from services.diffusers_engine.model_files import Family
from services.diffusers_engine.samplers import samplers_of

EVERYTHING_ELSE = """
import importlib, pkgutil, sys
for name in ("common", "services"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not module.name.endswith((".__main__", "diffusers_engine.engine", ".pipelines", ".previews", ".prompts")):
            importlib.import_module(module.name)
print(sorted({"accelerate", "diffusers", "safetensors", "torch", "transformers"} & set(sys.modules)))
"""


def test_only_its_engine_imports_torch():
    found = subprocess.run([sys.executable, "-c", EVERYTHING_ELSE], capture_output=True, text=True, check=True)

    assert found.stdout == "[]\n"


async def test_the_engine_needs_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    for module in ("engine", "pipelines", "previews", "prompts"):
        monkeypatch.delitem(sys.modules, f"services.diffusers_engine.{module}", raising=False)
    settings = read_settings({"INFERENCE_ENGINE": "diffusers", "MODELS": str(tmp_path)})

    with pytest.raises(Misconfigured, match=r"INFERENCE_ENGINE: diffusers needs .*darkroom\[diffusers\]"):
        async with wiring.serve_inference(settings, host="127.0.0.1"):
            pass


async def test_the_engine_needs_a_folder_of_models():
    settings = read_settings({"INFERENCE_ENGINE": "diffusers"})

    with pytest.raises(Misconfigured, match="MODELS: not set"):
        async with wiring.serve_inference(settings, host="127.0.0.1"):
            pass


def test_the_samplers_have_the_names_that_people_know():
    assert list(samplers_of(Family.FLUX)) == ["Euler"]
    assert samplers_of(Family.SD) == samplers_of(Family.SDXL)
    assert {"Euler", "Euler a", "DPM++ 2M Karras", "DPM++ SDE", "UniPC", "LCM"} <= samplers_of(Family.SD).keys()
