"""Finding the models in a folder: those that diffusers has saved, or single .safetensors files.

    MODELS/dreamshaper/model_index.json    ─▶ model `dreamshaper`
    MODELS/sd_xl_base_1.0.safetensors      ─▶ model `sd_xl_base_1.0`

It reads headers and small JSON files only, so it needs neither torch nor much time. Pickled weights (.ckpt, .bin) are
not read at all: unpickling runs the code that is in them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from common.application.capabilities import MAX_NAME
from common.domain.errors import Misconfigured
from common.domain.texts import clean_text

log = logging.getLogger(__name__)

MAX_HEADER_BYTES: Final = 100_000_000  # the limit of the safetensors library itself; SDXL has 300 kB
MAX_INDEX_BYTES: Final = 1_000_000


class Family(StrEnum):
    SD = "sd"
    SDXL = "sdxl"
    FLUX = "flux"


# The pipelines of diffusers by the class that model_index.json names.
_PIPELINES: Final = {
    "StableDiffusionPipeline": Family.SD,
    "StableDiffusionXLPipeline": Family.SDXL,
    "FluxPipeline": Family.FLUX,
}
_SD_TEXT_ENCODER: Final = "cond_stage_model.transformer.text_model."  # SD 2 has another encoder: cond_stage_model.model
_SDXL_TEXT_ENCODER: Final = "conditioner.embedders.1.model."
_FLUX_BLOCKS: Final = ("double_blocks.0.", "single_transformer_blocks.0.")  # the original names, those of diffusers
_PREFIX: Final = "model.diffusion_model."
SINGLE_FILE: Final = ".safetensors"


class UnusableModel(Exception):
    """The file or folder is no model that the engine can load; the text says why."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One model on disk."""

    id: str
    family: Family
    path: Path
    sibling: Path | None = None  # of a single file: a folder of the same family, for configuration and missing parts

    @property
    def is_folder(self) -> bool:
        return self.path.suffix != SINGLE_FILE


def find_models(root: Path) -> tuple[ModelFiles, ...]:
    """The models in the folder, or the one that `root` itself is; unusable ones are left out, with a line in the log.

    Raises:
        Misconfigured: there is none.
    """
    if not root.exists():
        raise Misconfigured(f"MODELS: {root} does not exist", code="bad_setting")
    itself = root.suffix == SINGLE_FILE or (root / "model_index.json").exists()
    candidates = [root] if itself else [path for path in sorted(root.iterdir()) if _may_be_model(path)]
    found = list(_usable(candidates))
    if not found:
        raise Misconfigured(
            f"MODELS: {root} has no model that can be used; it needs folders with a model_index.json, or "
            f".safetensors files, of Stable Diffusion 1.5, SDXL or Flux",
            code="bad_setting",
        )
    return tuple(found)


def _may_be_model(path: Path) -> bool:
    return path.suffix == SINGLE_FILE if path.is_file() else (path / "model_index.json").exists()


def _usable(candidates: list[Path]) -> Iterator[ModelFiles]:
    """Folders first, because a single file takes from them what it lacks."""
    folders: dict[Family, ModelFiles] = {}
    names: set[str] = set()
    for path in sorted(candidates, key=Path.is_file):
        try:
            model = _named(_single_file(path, folders) if path.is_file() else _folder(path), names)
        except UnusableModel as error:
            log.warning("%s is left out: %s", path.name, error)
            continue
        if model.is_folder:
            folders.setdefault(model.family, model)
        names.add(model.id)
        yield model


def _named(model: ModelFiles, names: set[str]) -> ModelFiles:
    if clean_text(model.id, MAX_NAME) != model.id:
        raise UnusableModel(f"its name is longer than {MAX_NAME} characters, or has control characters")
    return replace(model, id=model.path.name) if model.id in names else model


def _folder(path: Path) -> ModelFiles:
    index = _json(path / "model_index.json")
    name = index.get("_class_name")
    family = _PIPELINES.get(name) if isinstance(name, str) else None
    if family is None:
        raise UnusableModel(f"it is a {str(name)[:60]}; expected one of {', '.join(_PIPELINES)}")
    weights = list(path.glob(f"*/*{SINGLE_FILE}"))
    if not weights:
        raise UnusableModel("it has no .safetensors weights; pickled weights are not loaded, as they can run code")
    for file in weights:
        shapes(file)
    return ModelFiles(path.name, family, path)


def _single_file(path: Path, folders: dict[Family, ModelFiles]) -> ModelFiles:
    family = _family(shapes(path))
    sibling = folders.get(family)
    if family is Family.FLUX and sibling is None:
        raise UnusableModel(
            "a file of Flux holds the transformer only; a folder of Flux beside it must have the text encoders and VAE"
        )
    return ModelFiles(path.stem, family, path, sibling.path if sibling else None)


def _family(tensors: dict[str, tuple[int, ...]]) -> Family:
    names = tensors.keys()
    if any(name.removeprefix(_PREFIX).startswith(_FLUX_BLOCKS) for name in names):
        return Family.FLUX
    if any(name.startswith(_PREFIX) for name in names):
        if any(name.startswith(_SDXL_TEXT_ENCODER) for name in names):
            return Family.SDXL
        if any(name.startswith(_SD_TEXT_ENCODER) for name in names):
            return Family.SD
    raise UnusableModel("it is no checkpoint of Stable Diffusion 1.5, SDXL or Flux")


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a .safetensors file by name, from its header.

    Source: the format as its README describes it: 8 bytes length (little endian), a JSON header, the tensors.

    Raises:
        UnusableModel: it is not such a file, or it ends too early.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise UnusableModel(f"{path.name} is no safetensors file")
            header = json.loads(file.read(length))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        found = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except OSError as error:
        raise UnusableModel(f"{path.name} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise UnusableModel(f"{path.name} has no valid header") from error
    if 8 + length + end > size:
        raise UnusableModel(f"{path.name} is incomplete: {size} of {8 + length + end} bytes")
    return found


def _json(path: Path) -> dict[str, Any]:
    """A small JSON object.

    Raises:
        UnusableModel: the file is something else.
    """
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_INDEX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UnusableModel(f"{path.name} cannot be read as JSON") from error
    if not isinstance(found, dict):
        raise UnusableModel(f"{path.name} is not a JSON object")
    return found
