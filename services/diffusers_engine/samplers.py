"""The samplers of the engine: each name that people know stands for a scheduler of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.diffusers_engine.model_files import Family

DISTILLED_STEPS: Final = 50


@dataclass(frozen=True, slots=True)
class Sampler:
    """A scheduler: its class in diffusers, and what differs from the configuration of the model."""

    scheduler: str
    options: dict[str, Any] = field(default_factory=dict)
    takes_seed: bool = False  # draws noise from a seed of its own instead of the generator of the picture
    is_distilled: bool = False  # chooses its steps among those of the model's training, 50 unless it is told otherwise

    def configured(self, *, seed: int, steps: int) -> dict[str, Any]:
        """The options for one picture."""
        found = dict(self.options)
        if self.takes_seed:
            found["noise_sampler_seed"] = seed
        if self.is_distilled and steps > DISTILLED_STEPS:
            found["original_inference_steps"] = steps
        return found


_KARRAS: Final = {"use_karras_sigmas": True}
_SDE: Final = {"algorithm_type": "sde-dpmsolver++"}
_THIRD_ORDER: Final = {"solver_order": 3}
# PNDM without its Runge-Kutta steps at the start, as all models of Stable Diffusion use it: n + 1 steps.
_DENOISING: Final = {
    "Euler": Sampler("EulerDiscreteScheduler"),
    "Euler a": Sampler("EulerAncestralDiscreteScheduler"),
    "Euler Karras": Sampler("EulerDiscreteScheduler", _KARRAS),
    "Heun": Sampler("HeunDiscreteScheduler"),
    "LMS": Sampler("LMSDiscreteScheduler"),
    "LMS Karras": Sampler("LMSDiscreteScheduler", _KARRAS),
    "DDIM": Sampler("DDIMScheduler"),
    "DDPM": Sampler("DDPMScheduler"),
    "PNDM": Sampler("PNDMScheduler", {"skip_prk_steps": True}),
    "UniPC": Sampler("UniPCMultistepScheduler"),
    "DPM2": Sampler("KDPM2DiscreteScheduler"),
    "DPM2 Karras": Sampler("KDPM2DiscreteScheduler", _KARRAS),
    "DPM2 a": Sampler("KDPM2AncestralDiscreteScheduler"),
    "DPM2 a Karras": Sampler("KDPM2AncestralDiscreteScheduler", _KARRAS),
    "DPM++ 2M": Sampler("DPMSolverMultistepScheduler"),
    "DPM++ 2M Karras": Sampler("DPMSolverMultistepScheduler", _KARRAS),
    "DPM++ 2M SDE": Sampler("DPMSolverMultistepScheduler", _SDE),
    "DPM++ 2M SDE Karras": Sampler("DPMSolverMultistepScheduler", _SDE | _KARRAS),
    "DPM++ 3M SDE": Sampler("DPMSolverMultistepScheduler", _SDE | _THIRD_ORDER),
    "DPM++ 3M SDE Karras": Sampler("DPMSolverMultistepScheduler", _SDE | _THIRD_ORDER | _KARRAS),
    "DPM++ SDE": Sampler("DPMSolverSDEScheduler", takes_seed=True),
    "DPM++ SDE Karras": Sampler("DPMSolverSDEScheduler", _KARRAS, takes_seed=True),
    "DPM++ 2S": Sampler("DPMSolverSinglestepScheduler"),
    "DPM++ 2S Karras": Sampler("DPMSolverSinglestepScheduler", _KARRAS),
    "DEIS": Sampler("DEISMultistepScheduler"),
    "LCM": Sampler("LCMScheduler", is_distilled=True),
    "TCD": Sampler("TCDScheduler", is_distilled=True),
}
# The pipeline of Flux that paints from a picture, for a hires fix, has no other.
_FLOW: Final = {"Euler": Sampler("FlowMatchEulerDiscreteScheduler")}


def samplers_of(family: Family) -> Mapping[str, Sampler]:
    """The samplers that models of the family can be used with, by name."""
    return _FLOW if family is Family.FLUX else _DENOISING
