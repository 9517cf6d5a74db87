"""The nodes of the fake ComfyUI, from which the graphs of its prompts are made."""

import json
import re

SAMPLERS = ["euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde", "ddim", "uni_pc", "res_multistep"]
SCHEDULERS = ["simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal"]
METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]


def _int(low: int, high: int, step: int | None = 1) -> list:
    return ["INT", {"default": low, "min": low, "max": high} | ({"step": step} if step else {})]


_SIDE, _LINK = _int(16, 16384, 8), lambda kind: [kind]
_KSAMPLER = {
    "model": _LINK("MODEL"),
    "seed": _int(0, 2**64 - 1, None),
    "steps": _int(1, 10000, None),
    "cfg": ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1}],
    "sampler_name": [SAMPLERS, {}],
    "scheduler": [SCHEDULERS, {}],
    "positive": _LINK("CONDITIONING"),
    "negative": _LINK("CONDITIONING"),
    "latent_image": _LINK("LATENT"),
    "denoise": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0}],
}
_EMPTY_LATENT = {"width": _SIDE, "height": _SIDE, "batch_size": _int(1, 4096, None)}
CLASSES = {
    "KSampler": _KSAMPLER,
    "CheckpointLoaderSimple": {"ckpt_name": [[], {"tooltip": "The name of the checkpoint (model) to load."}]},
    "EmptyLatentImage": _EMPTY_LATENT,
    "EmptySD3LatentImage": _EMPTY_LATENT | {"width": _int(16, 16384, 16), "height": _int(16, 16384, 16)},
    "CLIPTextEncode": {"text": ["STRING", {"multiline": True}], "clip": _LINK("CLIP")},
    "ConditioningZeroOut": {"conditioning": _LINK("CONDITIONING")},
    "FluxGuidance": {"conditioning": _LINK("CONDITIONING"), "guidance": ["FLOAT", {"min": 0.0, "max": 100.0}]},
    "LatentUpscale": {
        "samples": _LINK("LATENT"), "upscale_method": [METHODS[:4], {}], "width": _int(0, 16384, 8),
        "height": _int(0, 16384, 8), "crop": [["disabled", "center"], {}],
    },
    "VAEDecode": {"samples": _LINK("LATENT"), "vae": _LINK("VAE")},
    "PreviewImage": {"images": _LINK("IMAGE")},
    "SaveImage": {"images": _LINK("IMAGE"), "filename_prefix": ["STRING", {"default": "ComfyUI"}]},
    "EmptyImage": {
        "width": ["INT", {"default": 512, "min": 1, "max": 16384, "step": 1}],
        "height": ["INT", {"default": 512, "min": 1, "max": 16384, "step": 1}],
        "batch_size": _int(1, 4096, None), "color": _int(0, 0xFFFFFF),
    },
    "ImageScale": {
        "image": _LINK("IMAGE"), "upscale_method": [METHODS, {}], "width": _int(0, 16384), "height": _int(0, 16384),
        "crop": [["disabled", "center"], {}],
    },
    "ImageCrop": {
        "image": _LINK("IMAGE"), "width": _int(1, 16384), "height": _int(1, 16384), "x": _int(0, 16384),
        "y": _int(0, 16384),
    },
    "LoadImage": {"image": [[], {"image_upload": True}]},
}  # fmt: skip
OUTPUTS = {"SaveImage", "PreviewImage"}


def upstream(graph, node) -> set[str]:
    """The node with all nodes that it needs."""
    found = {node}
    for value in graph[node]["inputs"].values():
        if isinstance(value, list) and len(value) == 2 and value[0] in graph:
            found |= upstream(graph, value[0])
    return found


def signature(graph, node) -> str:
    """Equal for nodes that would give the same, as the cache of the real server has it."""
    inputs = {
        name: signature(graph, value[0]) if isinstance(value, list) else value
        for name, value in graph[node]["inputs"].items()
    }
    return json.dumps([graph[node]["class_type"], inputs], sort_keys=True)


def size_of(graph, node) -> tuple[int, int]:
    """The size of what the node makes: that of the nearest node upstream that sets one."""
    inputs = graph[node]["inputs"]
    if "width" in inputs:
        return inputs["width"], inputs["height"]
    links = [value[0] for name, value in inputs.items() if isinstance(value, list) and re.search("image|samples", name)]
    return size_of(graph, links[0])
