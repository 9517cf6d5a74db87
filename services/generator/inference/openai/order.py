"""The body of `POST /images/generations` for each kind of server.

Each gets only fields that it is known to take: some refuse unknown ones, and others ignore them.
"""

from __future__ import annotations

import json
from typing import Final

from common.domain.errors import Rejected
from services.generator.inference.job import Job
from services.generator.inference.openai.server import Maker, OpenAiServer
from services.generator.inference.prompt_text import without_bars, without_networks, without_sdcpp_arguments
from services.generator.inference.supported import require_default

PARTIAL_IMAGES: Final = 2
_SIZES: Final = {  # of OpenAI's models, by the beginning of the name; the longest one counts
    "gpt-image": ((1024, 1024), (1536, 1024), (1024, 1536)),
    "dall-e-3": ((1024, 1024), (1792, 1024), (1024, 1792)),
    "dall-e-2": ((256, 256), (512, 512), (1024, 1024)),
}
_FREE_SIZE: Final = "gpt-image-2"
_MAX_RATIO: Final = 3
_MAX_SIDES: Final = (3840, 2160)  # pixels of the longer and the shorter side


def order_body(job: Job, server: OpenAiServer, *, with_previews: bool) -> dict[str, object]:
    """What to send for this job.

    Raises:
        Rejected: the server has no setting for a field; the text begins with the name of the field.
    """
    body: dict[str, object] = {"model": job.model, "n": 1, "size": f"{job.width}x{job.height}"}
    match server.maker:
        case Maker.OPENAI:
            return body | _openai(job, with_previews=with_previews)
        case Maker.VLLM | Maker.SGLANG:
            return body | _diffusion_server(job)
        case Maker.LOCALAI:
            return body | _localai(job)
        case Maker.SDSERVER:
            return body | _sdserver(job, server)
        case Maker.OTHER:
            _require_defaults(job, "steps", "cfg_scale", "sampler", "hires_fix")
            prompt = without_bars(without_networks(without_sdcpp_arguments(job.prompt)))
            return body | {"prompt": prompt, "seed": job.seed, "response_format": "b64_json"}


def can_stream(job: Job, server: OpenAiServer) -> bool:
    return server.maker is Maker.OPENAI and not job.model.startswith("dall-e")


def _require_defaults(job: Job, *names: str) -> None:
    for name in names:
        require_default(job, name)


def _openai(job: Job, *, with_previews: bool) -> dict[str, object]:
    """No seed, negative prompt, steps, scale or sampler exists. GPT models refuse `response_format`."""
    _require_defaults(job, "steps", "cfg_scale", "sampler", "hires_fix")
    _require_size(job)
    if job.model.startswith("dall-e"):
        return {"prompt": job.prompt, "response_format": "b64_json"}
    stream = {"stream": True, "partial_images": PARTIAL_IMAGES} if with_previews else {}
    return {"prompt": job.prompt, "output_format": "png", **stream}


def _require_size(job: Job) -> None:
    size = (job.width, job.height)
    if job.model.startswith(_FREE_SIZE):
        longer, shorter = max(size), min(size)
        if longer > shorter * _MAX_RATIO or longer > _MAX_SIDES[0] or shorter > _MAX_SIDES[1]:
            raise Rejected(f"width: {job.model} paints up to 3840 × 2160, with sides of at most 3 to 1, not {size}")
        return
    for beginning, sizes in _SIZES.items():
        if job.model.startswith(beginning) and size not in sizes:
            listed = ", ".join(f"{width} × {height}" for width, height in sizes)
            raise Rejected(f"width: {job.model} paints {listed} only, not {job.width} × {job.height}")


def _diffusion_server(job: Job) -> dict[str, object]:
    """vLLM-Omni and SGLang. The seed of SGLang is 1024 unless it is sent."""
    _require_defaults(job, "sampler", "hires_fix")
    return {
        "prompt": job.prompt,
        **({"negative_prompt": job.negative_prompt} if job.negative_prompt else {}),
        "num_inference_steps": job.steps,
        "guidance_scale": job.cfg_scale,
        "seed": job.seed,
        "response_format": "b64_json",
    }


def _localai(job: Job) -> dict[str, object]:
    """The negative prompt follows a bar; scale and sampler are in the file of the model."""
    _require_defaults(job, "cfg_scale", "sampler", "hires_fix")
    prompt, negative = (without_bars(without_networks(text)) for text in (job.prompt, job.negative_prompt))
    return {
        "prompt": f"{prompt}|{negative}" if negative else prompt,
        "step": job.steps,
        "seed": job.seed,
        "response_format": "b64_json",
    }


def _sdserver(job: Job, server: OpenAiServer) -> dict[str, object]:
    """It reads all settings but the size from JSON inside the prompt, of which the first one counts."""
    require_default(job, "hires_fix")
    arguments = {
        "seed": job.seed,
        "negative_prompt": without_networks(job.negative_prompt),
        "sample_params": {
            "sample_steps": job.steps,
            "sample_method": server.samplers.get(job.sampler, job.sampler),
            "guidance": {"txt_cfg": job.cfg_scale},
        },
    }
    text = json.dumps(arguments).replace("<", "\\u003c")  # a negative prompt cannot end it
    prompt = without_networks(without_sdcpp_arguments(job.prompt))
    return {"prompt": f"{prompt}<sd_cpp_extra_args>{text}</sd_cpp_extra_args>", "output_format": "png"}
