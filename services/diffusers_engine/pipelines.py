"""The pipelines of diffusers: loading one onto the device of this machine, with the sampler of an order.

ModelFiles ─▶ LoadedPipeline: text to image, image to image (the same weights), the colours of its latents
"""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass
from typing import Any, Final

import diffusers
import torch
import transformers

from common.runtime.clock import Clock
from services.diffusers_engine.model_files import Family, ModelFiles
from services.diffusers_engine.previews import LatentColours
from services.diffusers_engine.samplers import Sampler

log = logging.getLogger(__name__)

VERSION: Final = str(diffusers.__version__)
# Room beside the weights: the activations of a picture of a megapixel, and the VAE. Not measured on a GPU.
ROOM_BYTES: Final = 4 * 1024**3
MAX_SEQUENCE: Final = {True: 512, False: 256}  # tokens of T5; Flux.1 schnell, which takes no guidance, knows 256

# Their warnings quote the parts of prompts that CLIP cuts off; a log must not hold prompts. Before the first
# pipeline is named, because that imports it, with more warnings.
diffusers.utils.logging.set_verbosity_error()
transformers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()

_PIPELINES: Final = {
    Family.SD: (diffusers.StableDiffusionPipeline, diffusers.StableDiffusionImg2ImgPipeline),
    Family.SDXL: (diffusers.StableDiffusionXLPipeline, diffusers.StableDiffusionXLImg2ImgPipeline),
    Family.FLUX: (diffusers.FluxPipeline, diffusers.FluxImg2ImgPipeline),
}


class LoadFailed(Exception):
    """The model cannot be loaded; the log has the reason."""


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    files: ModelFiles
    text_to_image: Any  # the pipelines of diffusers have no types
    image_to_image: Any
    scheduler: dict[str, Any]  # the configuration of the scheduler, as the model has it
    colours: LatentColours

    def use_sampler(self, sampler: Sampler, *, seed: int, steps: int) -> None:
        """Give both pipelines a scheduler of their own: it keeps the state of one picture."""
        options = sampler.configured(seed=seed, steps=steps)
        kind = getattr(diffusers, sampler.scheduler)
        for pipeline in (self.text_to_image, self.image_to_image):
            pipeline.scheduler = kind.from_config(self.scheduler, **options)

    @property
    def extra(self) -> dict[str, int]:
        """The arguments that only this kind of pipeline has."""
        if self.files.family is not Family.FLUX:
            return {}
        return {"max_sequence_length": MAX_SEQUENCE[bool(self.text_to_image.transformer.config.guidance_embeds)]}


def device() -> str:
    """`cuda` (also of ROCm), `mps` of Apple, or `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load(files: ModelFiles, clock: Clock) -> LoadedPipeline:
    """Load a model.

    Raises:
        LoadFailed: its files are damaged or incomplete.
        MemoryError: it does not fit.
    """
    began = clock.monotonic()
    log.info("loading model %s (%s) on %s ...", files.id, files.family, device())
    try:
        pipeline = _read(files, _dtype(files.family))
        pipeline.set_progress_bar_config(disable=True)
        colours = LatentColours.of(pipeline.vae)
        _place(pipeline)
        image_to_image = _PIPELINES[files.family][1](**_components(pipeline, files.family))
        image_to_image.set_progress_bar_config(disable=True)
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError(f"model {files.id}") from error
        # The libraries raise errors of any kind at damaged files.
        log.exception("model %s cannot be loaded from %s", files.id, files.path)
        raise LoadFailed(f"the model {files.id} cannot be loaded") from error
    log.info("loaded model %s, %.1f s", files.id, clock.monotonic() - began)
    return LoadedPipeline(files, pipeline, image_to_image, dict(pipeline.scheduler.config), colours)


def release(name: str) -> None:
    """Return the memory of a pipeline that is referenced no more."""
    gc.collect()  # pipelines hold cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    log.info("released model %s", name)


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The allocators of the CPU and of MPS raise a plain RuntimeError, so there is only its text.
    texts = ("can't allocate memory", "not enough memory", "MPS backend out of memory")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)


def _dtype(family: Family) -> torch.dtype:
    if device() == "cpu":
        return torch.float32  # most CPUs compute half precision slowly, or not at all
    if family is Family.FLUX and (device() == "mps" or torch.cuda.is_bf16_supported()):
        return torch.bfloat16  # its activations overflow float16
    return torch.float16


def _read(files: ModelFiles, dtype: torch.dtype) -> Any:
    kind = _PIPELINES[files.family][0]
    if files.is_folder:
        return kind.from_pretrained(
            files.path, dtype=dtype, use_safetensors=True, local_files_only=True, variant=_variant(files)
        )
    if files.family is Family.FLUX:
        transformer = diffusers.FluxTransformer2DModel.from_single_file(
            str(files.path), config=str(files.sibling), subfolder="transformer", dtype=dtype
        )
        return kind.from_pretrained(
            files.sibling, transformer=transformer, dtype=dtype, use_safetensors=True, local_files_only=True
        )
    # Without a folder of the family, diffusers takes the configuration (not weights) from its hub or its cache.
    config = {"config": str(files.sibling)} if files.sibling else {}
    return kind.from_single_file(str(files.path), dtype=dtype, **config)


def _variant(files: ModelFiles) -> str | None:
    """`fp16` if the folder has weights in half precision only; their file names say so."""
    part = files.path / ("transformer" if files.family is Family.FLUX else "unet")
    names = [file.name for file in part.glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


def _place(pipeline: Any) -> None:
    """Move the pipeline to the device; to a GPU that is too small for all of it, each part while it is used."""
    if device() == "cuda" and _weight_bytes(pipeline) + ROOM_BYTES > torch.cuda.mem_get_info()[0]:
        log.info("the model is larger than the free memory of the GPU: its parts are moved there one at a time")
        pipeline.enable_model_cpu_offload()
    else:
        pipeline.to(device())


def _weight_bytes(pipeline: Any) -> int:
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(tensor.nbytes for module in modules for tensor in module.parameters())


def _components(pipeline: Any, family: Family) -> dict[str, Any]:
    """What the second pipeline is made of: the same parts, with the same settings."""
    names = {Family.SD: "requires_safety_checker", Family.SDXL: "force_zeros_for_empty_prompt"}
    name = names.get(family)
    return {**pipeline.components, **({name: pipeline.config[name]} if name else {})}
