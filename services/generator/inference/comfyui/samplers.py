"""Names of samplers: those that people know, for the pairs of sampler and scheduler that ComfyUI takes.

The known names are those of the AUTOMATIC1111 web UI, which other front ends use as well.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class SamplerChoice:
    """A sampler of ComfyUI with its scheduler; without one, the scheduler of the workflow stays."""

    sampler: str
    scheduler: str | None = None


_WITH_SCHEDULES: Final = {  # known name ─▶ sampler; each also with the suffixes of `_SCHEDULES`
    "Euler": "euler",
    "Euler a": "euler_ancestral",
    "Heun": "heun",
    "LMS": "lms",
    "DPM2": "dpm_2",
    "DPM2 a": "dpm_2_ancestral",
    "DPM++ 2S a": "dpmpp_2s_ancestral",
    "DPM++ SDE": "dpmpp_sde",
    "DPM++ 2M": "dpmpp_2m",
    "DPM++ 2M SDE": "dpmpp_2m_sde",
    "DPM++ 3M SDE": "dpmpp_3m_sde",
}
_SCHEDULES: Final = {"Karras": "karras", "Exponential": "exponential", "SGM Uniform": "sgm_uniform"}
_OTHERS: Final = {
    "DPM fast": SamplerChoice("dpm_fast"),
    "DPM adaptive": SamplerChoice("dpm_adaptive"),
    "DDIM": SamplerChoice("ddim", "ddim_uniform"),
    "DDPM": SamplerChoice("ddpm"),
    "UniPC": SamplerChoice("uni_pc"),
    "UniPC BH2": SamplerChoice("uni_pc_bh2"),
    "DEIS": SamplerChoice("deis"),
    "IPNDM": SamplerChoice("ipndm"),
    "LCM": SamplerChoice("lcm"),
}
KNOWN: Final[dict[str, SamplerChoice]] = {
    **{name: SamplerChoice(sampler) for name, sampler in _WITH_SCHEDULES.items()},
    **_OTHERS,
    **{
        f"{name} {suffix}": SamplerChoice(sampler, scheduler)
        for suffix, scheduler in _SCHEDULES.items()
        for name, sampler in _WITH_SCHEDULES.items()
    },
}


def sampler_choices(samplers: Collection[str], schedulers: Collection[str] | None) -> dict[str, SamplerChoice]:
    """What a server with these samplers and schedulers offers, by the name that people know.

    A sampler without such a name has its own. `schedulers` is None if the workflow cannot change its scheduler.
    """
    known = {
        name: choice
        for name, choice in KNOWN.items()
        if choice.sampler in samplers
        and (choice.scheduler is None or (schedulers is not None and choice.scheduler in schedulers))
    }
    named = {choice.sampler for choice in known.values()}
    return known | {sampler: SamplerChoice(sampler) for sampler in samplers if sampler not in named}
