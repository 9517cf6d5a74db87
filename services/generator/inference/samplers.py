"""Names of samplers: each program spells the same few in its own way.

A request says `Euler a`; stable-diffusion.cpp calls it `euler_a`, cog models `K_EULER_ANCESTRAL`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

# A1111's names, which people know, and the names of others for the same sampler. Sources: diffusers' table of
# schedulers; stable-diffusion.cpp, examples/server/routes_sdapi.cpp; models of Replicate.
_SPELLINGS: Final = {
    "Euler": ("euler", "k_euler", "EulerDiscreteScheduler"),
    "Euler a": ("euler_a", "euler_ancestral", "k_euler_ancestral", "k_euler_a", "EulerAncestralDiscreteScheduler"),
    "Heun": ("heun", "k_heun", "HeunDiscreteScheduler", "HeunDiscrete"),
    "LMS": ("lms", "k_lms", "klms", "LMSDiscreteScheduler"),
    "DPM2": ("dpm2", "dpm_2", "k_dpm_2", "KDPM2DiscreteScheduler"),
    "DPM2 a": ("dpm2_a", "dpm_2_ancestral", "k_dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler"),
    "DPM++ 2M": ("dpm++2m", "dpmpp_2m", "k_dpmpp_2m", "DPMSolverMultistep", "DPMSolverMultistepScheduler"),
    "DPM++ 2M Karras": ("KarrasDPM", "dpmpp_2m_karras"),
    "DPM++ 2S a": ("dpm++2s_a", "dpmpp_2s_ancestral", "k_dpmpp_2s_a", "DPMSolverSinglestep"),
    "DDIM": ("ddim", "DDIMScheduler"),
    "PNDM": ("pndm", "PNDMScheduler"),
    "UniPC": ("unipc", "uni_pc", "UniPCMultistepScheduler"),
    "LCM": ("lcm", "LCMScheduler"),
}
_PUNCTUATION: Final = re.compile(r"[\s_.-]+")


def _key(name: str) -> str:
    return _PUNCTUATION.sub("", name).lower()


_COMMON: Final = {_key(name): common for common, names in _SPELLINGS.items() for name in (common, *names)}


def named_samplers(offered: Iterable[str]) -> Mapping[str, str]:
    """The server's name for each name that a request may use: the common one where there is one, else its own.

    The server's own spelling stays usable if no common name takes its place.
    """
    found: dict[str, str] = {}
    for name in offered:
        found.setdefault(_COMMON.get(_key(name), name), name)
    return found
