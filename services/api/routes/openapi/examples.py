"""The examples of requests in the OpenAPI document. They run as they stand.

Without them a page makes texts from the patterns of the fields: noise. A test sends each of them to a server.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

Example = dict[str, Any]

_PROMPT: Final = "a lighthouse at dusk, stormy sea"
_SMALL: Final = {"width": 512, "height": 512, "steps": 20}
SHARE_ID: Final = "k3VbQ0x9Zt8"
TOKEN: Final = "ImEtc2hhcmUi.aQ0Zx7Lk2mN4"  # noqa: S105 - an example
IMAGE_ID: Final = "0194685b-6c00-7d3e-9f10-2f0a4f6b8c11"
_GENERATIONS: Final = "/v1/images/generations"
_OPENAI: Final = "/openai/v1/images/generations"
_MODEL: Final = "/openai/v1/models/{model}"

OF_PATHS: Final = {
    "id": IMAGE_ID,
    "key": f"generated_images/2025/01/{IMAGE_ID}.png",
    "letter": "42",
    "model": "sdxl",
    "shareId": SHARE_ID,
    "token": TOKEN,
    "extension": "png",
}
_MEANINGS: Final = {
    "id": "The id of an image of yours",
    "key": "The part of an `imageUrl` or `thumbnailUrl` after `/media/`",
    "letter": "The id of a dead letter, from the list of them",
    "shareId": "The id of a share link, from the list of them",
    "token": "The token in the URL of a share link",
    "extension": "The ending of the file: `png`, `jpg` or `webp`",
}
_OF_BODIES: Final[dict[str, dict[str, Example]]] = {
    "generations_generate": {
        "a picture": {"prompt": _PROMPT, **_SMALL, "seed": 42},
        "the prompt alone": {"prompt": _PROMPT},
        "four pictures with successive seeds": {"prompt": _PROMPT, **_SMALL, "seed": 42, "num_images": 4},
        "all settings": {
            "prompt": _PROMPT,
            "negative_prompt": "people, text",
            "model": "sdxl",
            "width": 768,
            "height": 512,
            "steps": 30,
            "cfg_scale": 6.5,
            "sampler": "Euler",
            "seed": 42,
            "num_images": 1,
            "hires_fix": False,
        },
    },
    "images_pin": {"pin": {"pinned": True}, "unpin": {"pinned": False}},
    "images_share": {"a link for a week, without the prompt": {"expires_in": 604_800, "show_prompt": False}},
    "images_archive": {"a zip file of one picture": {"ids": [IMAGE_ID]}},
    "openai_generate": {
        "a picture": {"prompt": _PROMPT, "size": "1024x1024", "response_format": "b64_json"},
        "two pictures by URL": {"prompt": _PROMPT, "n": 2, "size": "512x512", "response_format": "url"},
        "a stream with previews": {"prompt": _PROMPT, "size": "512x512", "stream": True, "partial_images": 2},
    },
    "status_purge": {
        "count what would be deleted": {"dry_run": True},
        "images older than a week, counted only": {"dry_run": True, "older_than": 604_800},
    },
    "status_sweep": {"report the differences": {"dry_run": True}},
}
OF_SCHEMAS: Final[dict[str, Example]] = {
    "GenerationRequest": _OF_BODIES["generations_generate"]["a picture"],
    "ImagePatch": _OF_BODIES["images_pin"]["pin"],
    "ArchiveRequest": _OF_BODIES["images_archive"]["a zip file of one picture"],
    "ShareRequest": _OF_BODIES["images_share"]["a link for a week, without the prompt"],
    "ImageRequest": _OF_BODIES["openai_generate"]["a picture"],
}


def of_path(name: str) -> Example:
    """What a parameter in a path means, with an example."""
    meaning = {"description": _MEANINGS[name]} if name in _MEANINGS else {}
    return meaning | ({"example": OF_PATHS[name]} if name in OF_PATHS else {})


def of_body(operation_id: str) -> dict[str, dict[str, Example]]:
    """The examples of a body by their names, in the form of OpenAPI."""
    return {name: {"value": value} for name, value in _OF_BODIES[operation_id].items()}


def adapted(document: Example, adapt: Callable[[Example], Example], *, model: str | None) -> Example:
    """The document with examples that the models allow now; `model` is the name of one of them."""
    paths = copy.deepcopy(document["paths"])
    for path, change in ((_GENERATIONS, adapt), (_OPENAI, lambda example: _with_size(example, adapt))):
        if path in paths:
            named = paths[path]["post"]["requestBody"]["content"]["application/json"]["examples"]
            for each in named.values():
                each["value"] = change(each["value"])
    for parameter in paths.get(_MODEL, {}).get("get", {}).get("parameters", []):
        parameter["example"] = model or parameter["example"]
    return {**document, "paths": paths}


def _with_size(example: Example, adapt: Callable[[Example], Example]) -> Example:
    """The example of OpenAI's surface in a size that the default model allows."""
    width, height = map(int, example["size"].split("x"))
    allowed = adapt({"width": width, "height": height})
    return {**example, "size": f"{allowed['width']}x{allowed['height']}"}
