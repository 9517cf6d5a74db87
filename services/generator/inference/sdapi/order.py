"""The body of `POST /sdapi/v1/txt2img` with its answer.

Sources: A1111 `modules/processing.py`; Forge `modules/processing.py`; SD.Next and sd-server as recorded in
tests/transcripts.
"""

from __future__ import annotations

import json
from typing import Any, Final

from common.domain.errors import BadImage, Denied, Transient
from common.domain.texts import clean_text
from services.generator.inference.answers import error_text
from services.generator.inference.encoded_pictures import decoded_picture
from services.generator.inference.job import Job
from services.generator.inference.port import GeneratedImage
from services.generator.inference.prompt_text import without_networks, without_sdcpp_arguments, without_wildcards
from services.generator.inference.sdapi.program import Program, Server

_HIRES_DENOISING: Final = 0.7  # A1111's own default for its latent upscaler
_MIN_SIDE: Final = 64  # pixels of the first pass
_MAX_INFO_CHARS: Final = 200_000  # it repeats the prompt several times


def order_body(job: Job, server: Server) -> dict[str, object]:
    """What to send for this job; the defaults of the server count for nothing that a job decides."""
    body: dict[str, object] = {
        "prompt": _prompt(job.prompt, server),
        "negative_prompt": _prompt(job.negative_prompt, server),
        "seed": job.seed,
        "steps": job.steps,
        "cfg_scale": job.cfg_scale,
        "width": job.width,
        "height": job.height,
        **server.sampler_fields(job.sampler),
        "batch_size": 1,
        "n_iter": 1,
        "send_images": True,
        "save_images": False,
        "do_not_save_samples": True,
        "do_not_save_grid": True,
    }
    if server.has_task_ids:
        # -1, the default, changes the noise of some seeds (A1111#11247)
        body |= {"force_task_id": job.remote_id, "seed_resize_from_h": 0, "seed_resize_from_w": 0}
    if server.has_progress and (checkpoint := server.checkpoints.get(job.model)):
        body["override_settings"] = {"sd_model_checkpoint": checkpoint.title}
        body["override_settings_restore_afterwards"] = False  # else each order would load two models
    if job.hires_fix:
        body |= _hires_fields(job)
    return body


def _prompt(text: str, server: Server) -> str:
    if server.program is Program.SDSERVER:
        return without_networks(without_sdcpp_arguments(text))
    text = without_networks(text)
    return without_wildcards(text) if server.program is Program.SDNEXT else text


def _hires_fields(job: Job) -> dict[str, object]:
    """A first pass at half the size; the second one has exactly the size of the job."""
    return {
        "enable_hr": True,
        "width": max(_MIN_SIDE, job.width // 16 * 8),
        "height": max(_MIN_SIDE, job.height // 16 * 8),
        "hr_resize_x": job.width,
        "hr_resize_y": job.height,
        "denoising_strength": _HIRES_DENOISING,
        "hr_cfg": job.cfg_scale,  # Forge: 1.0 otherwise
        "hr_additional_modules": ["Use same choices"],  # Forge fails without it
    }


async def result(answer: Any, job: Job, server: Server, *, max_bytes: int) -> GeneratedImage:
    """The picture in an answer with status 200.

    Raises:
        Transient: the answer is an error all the same, or the server could not load the model.
        Denied: the server has no model.
        BadImage: there is no picture, or another model made it.
    """
    if not isinstance(answer, dict):
        raise BadImage("the answer of the inference service is not a JSON object")
    if "images" not in answer and ("error" in answer or "detail" in answer):
        raise Transient(f"the inference service answered with an error: {error_text(json.dumps(answer))}")
    info = _info(answer.get("info"))
    images = answer.get("images")
    if not isinstance(images, list) or not images:
        if server.program is Program.SDNEXT and not server.checkpoints:
            raise Denied("SD.Next has no model: it answers without a picture")
        if server.program is Program.SDNEXT and not answer.get("info"):
            raise Transient(f"SD.Next did not load the model {job.model!r}: its log has the reason")
        raise BadImage("the answer of the inference service holds no picture")
    first = info.get("index_of_first_image")
    index = first if isinstance(first, int) and 0 <= first < len(images) else 0  # a grid may come before it
    _require_model(info, job, server)
    seed, model = info.get("seed"), info.get("sd_model_name")
    return GeneratedImage(
        content=await decoded_picture(images[index], max_bytes=max_bytes),
        seed=seed if isinstance(seed, int) and 0 <= seed < 2**64 else None,
        model=clean_text(model, 100) if isinstance(model, str) else None,
    )


def _info(text: object) -> dict[str, Any]:
    """The JSON text of the answer; empty with sd-server."""
    if not isinstance(text, str) or len(text) > _MAX_INFO_CHARS:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _require_model(info: dict[str, Any], job: Job, server: Server) -> None:
    """A1111 and Forge paint with the loaded model if they do not find the named one.

    SD.Next has hashes of more than one kind.
    """
    wanted = server.checkpoints.get(job.model) if server.has_task_ids else None
    used = info.get("sd_model_hash")
    if wanted and wanted.hash and isinstance(used, str) and used and used[:8] != wanted.hash[:8]:
        raise BadImage(f"the inference service painted with another model than {job.model!r}")
