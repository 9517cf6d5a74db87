"""Models on disk, by headers that the tests write; no weights are needed."""

import json

import pytest

from common.domain.errors import Misconfigured
from services.diffusers_engine.model_files import Family, ModelFiles, find_models, shapes

SD = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
SDXL = "conditioner.embedders.1.model.ln_final.weight"
UNET = "model.diffusion_model.input_blocks.0.0.weight"


def header(*names):
    return {name: {"dtype": "F32", "shape": [2], "data_offsets": [8 * n, 8 * n + 8]} for n, name in enumerate(names)}


def write(path, *names, missing=0):
    """A .safetensors file with a tensor of two numbers for each name; `missing` bytes are cut off its end."""
    head = json.dumps({"__metadata__": {"format": "pt"}, **header(*names)}).encode()
    content = len(head).to_bytes(8, "little") + head + bytes(8 * len(names))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content[: len(content) - missing])


def folder(path, kind, *, weights="unet/diffusion_pytorch_model.safetensors"):
    path.mkdir(parents=True)
    (path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    if weights:
        write(path / weights, "conv_in.weight")


def test_models_are_named_by_their_folders_and_files(tmp_path):
    folder(tmp_path / "dreamshaper", "StableDiffusionPipeline")
    folder(tmp_path / "base", "StableDiffusionXLPipeline")
    folder(tmp_path / "dev", "FluxPipeline")
    write(tmp_path / "v1-5.safetensors", UNET, SD)
    write(tmp_path / "sd_xl_base_1.0.safetensors", UNET, SDXL)
    write(tmp_path / "flux1-dev.safetensors", "double_blocks.0.img_attn.qkv.weight")
    (tmp_path / "notes.txt").write_text("not a model")
    (tmp_path / "loras").mkdir()

    assert find_models(tmp_path) == (
        ModelFiles("base", Family.SDXL, tmp_path / "base"),
        ModelFiles("dev", Family.FLUX, tmp_path / "dev"),
        ModelFiles("dreamshaper", Family.SD, tmp_path / "dreamshaper"),
        ModelFiles("flux1-dev", Family.FLUX, tmp_path / "flux1-dev.safetensors", tmp_path / "dev"),
        ModelFiles("sd_xl_base_1.0", Family.SDXL, tmp_path / "sd_xl_base_1.0.safetensors", tmp_path / "base"),
        ModelFiles("v1-5", Family.SD, tmp_path / "v1-5.safetensors", tmp_path / "dreamshaper"),
    )


def test_one_model_may_be_named_instead_of_a_folder(tmp_path):
    folder(tmp_path / "dreamshaper", "StableDiffusionPipeline")
    write(tmp_path / "v1-5.safetensors", UNET, SD)

    assert [model.id for model in find_models(tmp_path / "dreamshaper")] == ["dreamshaper"]
    assert find_models(tmp_path / "v1-5.safetensors") == (ModelFiles("v1-5", Family.SD, tmp_path / "v1-5.safetensors"),)


def test_a_file_named_as_a_folder_keeps_its_suffix(tmp_path):
    folder(tmp_path / "base", "StableDiffusionXLPipeline")
    write(tmp_path / "base.safetensors", UNET, SDXL)

    assert [model.id for model in find_models(tmp_path)] == ["base", "base.safetensors"]


def test_a_linked_model_is_found(tmp_path):
    folder(tmp_path / "store" / "base", "StableDiffusionXLPipeline")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "linked").symlink_to(tmp_path / "store" / "base")

    assert [model.id for model in find_models(tmp_path / "models")] == ["linked"]


UNUSABLE = {
    "pickled": lambda path: folder(path, "StableDiffusionPipeline", weights=None),
    "other-kind": lambda path: folder(path, "StableDiffusion3Pipeline"),
    "custom": lambda path: folder(path, ["pipeline", "MyPipeline"]),
    "empty.safetensors": lambda path: path.write_bytes(b""),
    "short.safetensors": lambda path: path.write_bytes(b"\x07\0\0"),
    "huge-header.safetensors": lambda path: path.write_bytes(b"\xff" * 64),
    "no-json.safetensors": lambda path: path.write_bytes((8).to_bytes(8, "little") + b"no json!"),
    "list.safetensors": lambda path: path.write_bytes((2).to_bytes(8, "little") + b"[]"),
    "nested.safetensors": lambda path: path.write_bytes((60_000).to_bytes(8, "little") + b"[" * 60_000),
    "odd-entry.safetensors": lambda path: path.write_bytes((8).to_bytes(8, "little") + b'{"a":{}}'),
    "cut-off.safetensors": lambda path: write(path, UNET, SD, missing=1),
    "lora.safetensors": lambda path: write(path, "lora_unet_down_blocks_0.weight"),
    "sd2.safetensors": lambda path: write(path, UNET, "cond_stage_model.model.ln_final.weight"),
    "flux-alone.safetensors": lambda path: write(path, "model.diffusion_model.double_blocks.0.img_attn.qkv.weight"),
    "n" * 101: lambda path: folder(path, "StableDiffusionPipeline"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_is_left_out_with_a_reason(tmp_path, caplog, name):
    UNUSABLE[name](tmp_path / name)
    folder(tmp_path / "sound", "StableDiffusionPipeline")

    assert [model.id for model in find_models(tmp_path)] == ["sound"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.records[0].getMessage().startswith(f"{name} is left out: ")


def test_an_index_that_is_not_json_is_left_out(tmp_path, caplog):
    for name, text in (("broken", "{"), ("text", '"x"')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text(text)

    with pytest.raises(Misconfigured, match="no model that can be used"):
        find_models(tmp_path)
    assert len(caplog.records) == 2


def test_a_missing_folder_is_refused_by_name(tmp_path):
    with pytest.raises(Misconfigured, match=r"MODELS: .*nowhere does not exist"):
        find_models(tmp_path / "nowhere")


def test_shapes_are_read_from_the_header(tmp_path):
    write(tmp_path / "a.safetensors", UNET, SD)

    assert shapes(tmp_path / "a.safetensors") == {UNET: (2,), SD: (2,)}
