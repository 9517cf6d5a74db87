"""Prompts as data: texts that a server would read as an instruction are changed so that it does not.

A person sees the prompt as ordered; the server gets the text below. Only the one character is added or replaced that
keeps the server from reading it, so that the words stay.
"""

from __future__ import annotations

import re
from typing import Final

# A1111, Forge and SD.Next: `re.compile(r"<(\w+):([^>]+)>")` in modules/extra_networks.py loads a LoRA or a network;
# so do stable-diffusion.cpp (docs/lora.md) and LocalAI, which is made of it, with a file in their folder of LoRAs
_EXTRA_NETWORK: Final = re.compile(r"<(?=\w+:)")
# SD.Next: modules/styles.py replaces `__name__` by a random line of a file of that name
_WILDCARD: Final = re.compile(r"_(?=_)")
# stable-diffusion.cpp: examples/server/routes_openai.cpp reads JSON between these marks as settings of the request
_SDCPP_ARGUMENTS: Final = re.compile(r"<(?=/?\s*sd_cpp_extra_args)", re.IGNORECASE)


def without_networks(text: str) -> str:
    """`<lora:name:1>` becomes `< lora:name:1>`, which is no tag."""
    return _EXTRA_NETWORK.sub("< ", text)


def without_wildcards(text: str) -> str:
    """`__animal__` becomes `_ _animal_ _`."""
    return _WILDCARD.sub("_ ", text)


def without_sdcpp_arguments(text: str) -> str:
    """`<sd_cpp_extra_args>` becomes `< sd_cpp_extra_args>`, which is no mark."""
    return _SDCPP_ARGUMENTS.sub("< ", text)


def without_bars(text: str) -> str:
    """LocalAI splits the prompt at `|`: what follows is the negative prompt, and what follows that is lost."""
    return text.replace("|", "¦")
