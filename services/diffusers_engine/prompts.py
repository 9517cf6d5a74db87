"""Prompts of any length for the text encoders of Stable Diffusion, which read 77 tokens at a time.

    tokens ─▶ chunks of 75 ─▶ <start> chunk <end> each ─▶ encoded alone ─▶ joined: the model sees all of them

diffusers cuts a longer prompt off. Flux needs none of this: its T5 reads 256 or 512 tokens.
"""

from __future__ import annotations

from typing import Any

import torch

from services.diffusers_engine.model_files import Family


def prompt_arguments(pipeline: Any, family: Family, prompt: str, negative: str) -> dict[str, Any]:
    """The arguments of the pipeline for a prompt: texts where they fit, else what the encoders make of them."""
    if family is Family.FLUX:
        return {"prompt": prompt}
    count = max(len(_chunks(pipeline.tokenizer, text)) for text in (prompt, negative))
    if count == 1:
        return {"prompt": prompt, "negative_prompt": negative or None}
    return as_embeddings(pipeline, prompt, negative, count=count)


def as_embeddings(pipeline: Any, prompt: str, negative: str, *, count: int) -> dict[str, Any]:
    """Both texts encoded, in as many chunks as the longer one needs."""
    with torch.no_grad():
        positive, against = _encoded(pipeline, prompt, count), _encoded(pipeline, negative, count)
    if not negative and getattr(pipeline.config, "force_zeros_for_empty_prompt", False):
        against = tuple(torch.zeros_like(part) for part in against)
    names = ("prompt_embeds", "pooled_prompt_embeds")
    return {
        **dict(zip(names, positive, strict=False)),
        **{f"negative_{name}": part for name, part in zip(names, against, strict=False)},
    }


def _chunks(tokenizer: Any, text: str) -> list[list[int]]:
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    size = tokenizer.model_max_length - 2
    return [tokens[start : start + size] for start in range(0, len(tokens), size)] or [[]]


def _encoded(pipeline: Any, text: str, count: int) -> tuple[torch.Tensor, ...]:
    """(1, count × 77, width) of all encoders, and for SDXL the summary (1, width) that its second one makes."""
    if getattr(pipeline, "tokenizer_2", None) is None:
        return (_output(pipeline.tokenizer, pipeline.text_encoder, text, count)[0].flatten(0, 1)[None],)
    first = _output(pipeline.tokenizer, pipeline.text_encoder, text, count)
    second = _output(pipeline.tokenizer_2, pipeline.text_encoder_2, text, count)
    hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    return hidden.flatten(0, 1)[None], second[0][:1]


def _output(tokenizer: Any, encoder: Any, text: str, count: int) -> Any:
    chunks = _chunks(tokenizer, text)
    rows = []
    for chunk in chunks + [[]] * (count - len(chunks)):
        row = [tokenizer.bos_token_id, *chunk, tokenizer.eos_token_id]
        rows.append(row + [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(row)))
    return encoder(torch.tensor(rows, device=encoder.device), output_hidden_states=True)
