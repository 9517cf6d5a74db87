"""The file that `BACKENDS` names: one table for each back end.

    [[backends]]
    name = "left"
    url = "comfyui+http://10.0.0.5:8188"
    key_file = "left.key"                         # or key = "…"
    concurrency = 1
    models = {sdxl = "sd_xl_base_1.0.safetensors"}   # ours = theirs
    workflows = {sdxl = "portraits.json"}

Each error names the file, the entry and the field; none holds a key or a URL.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from common.application.capabilities import MAX_NAME as MAX_MODEL_NAME
from common.domain.errors import Misconfigured
from common.domain.texts import clean_text
from common.runtime.reading_settings import clean, read_secret
from common.runtime.setting_types import MAX_BACK_ENDS, Url
from services.generator.backends.definition import BackendDefinition
from services.generator.inference.comfyui.workflow import SHIPPED, read_workflow

_MAX_FILE_BYTES: Final = 1_000_000
_MAX_MODELS: Final = 1_000
_COMFYUI: Final = "comfyui+"  # the only dialect with workflows


def _model_name(value: str) -> str:
    if not value or clean_text(value, MAX_MODEL_NAME) != value:
        raise ValueError(f"must be a name of at most {MAX_MODEL_NAME} visible characters")
    return value


_ModelName = Annotated[str, AfterValidator(_model_name)]
_Files = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=1_000)]],
    Field(min_length=1, max_length=10),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
]


class BackendEntry(BaseModel):
    """The form of one entry; an unknown field is a mistake of its author."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    # shown in logs, heartbeats and metrics
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,39}$")]
    url: Url
    key: Annotated[str, Field(min_length=1, max_length=65_536)] | None = None
    key_file: Annotated[str, Field(min_length=1)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=64)] | None = None
    models: Annotated[dict[_ModelName, _ModelName], Field(min_length=1, max_length=_MAX_MODELS)] | None = None
    workflows: Annotated[dict[_ModelName, _Files], Field(max_length=_MAX_MODELS)] = {}


class EntryWrong(Exception):
    """What is wrong in one entry: the field, and why."""


def read_backends(path: Path, *, concurrency: int) -> tuple[BackendDefinition, ...]:
    """The back ends of the file; `concurrency` is that of those that have no figure of their own.

    Raises:
        Misconfigured: names the file, the entry and the field.
    """
    tables = _tables(path)
    found: list[BackendDefinition] = []
    for number, table in enumerate(tables, 1):
        where = f"BACKENDS: {path}: back end {_label(number, table)}"
        try:
            found.append(_definition(table, path.parent, concurrency, where))
        except ValidationError as error:
            raise _wrong(f"{where}: {'; '.join(_reasons(error))}") from None
        except (EntryWrong, ValueError) as error:
            raise _wrong(f"{where}: {error}") from None
        if any(each.name == found[-1].name for each in found[:-1]):
            raise _wrong(f"{where}: name: another back end has it already")
    return tuple(found)


def _tables(path: Path) -> list[object]:
    """The entries as TOML has them."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise _wrong(f"BACKENDS: {path}: has more than {_MAX_FILE_BYTES} bytes")
        document = tomllib.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise _wrong(f"BACKENDS: {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _wrong(f"BACKENDS: {path}: is not UTF-8") from None
    except RecursionError:
        raise _wrong(f"BACKENDS: {path}: is nested too deeply") from None
    except ValueError as error:  # a TOMLDecodeError, or an integer with too many digits
        raise _wrong(f"BACKENDS: {path}: is not TOML: {clean_text(str(error), 200)}") from None
    if unknown := document.keys() - {"backends"}:
        raise _wrong(f"BACKENDS: {path}: has the unknown field {min(unknown)!r}; it has tables [[backends]] only")
    tables = document.get("backends")
    if not isinstance(tables, list) or not 1 <= len(tables) <= MAX_BACK_ENDS:
        raise _wrong(f"BACKENDS: {path}: must have 1 to {MAX_BACK_ENDS} tables [[backends]]")
    return tables


def _definition(table: object, folder: Path, concurrency: int, where: str) -> BackendDefinition:
    """Raises ValidationError, EntryWrong or ValueError, whose text begins with the field."""
    entry = BackendEntry.model_validate(table)
    models = entry.models or {}
    if entry.workflows and not entry.url.lower().startswith(_COMFYUI):
        raise EntryWrong(f"workflows: only back ends with a URL of {_COMFYUI}… have them")
    if entry.models is not None and (unknown := entry.workflows.keys() - models.keys()):
        raise EntryWrong(f"workflows: {min(unknown)!r} is not one of the models")
    return BackendDefinition(
        name=entry.name,
        url=entry.url,
        concurrency=entry.concurrency or concurrency,
        api_key=_key(entry, folder),
        models=models,
        workflows={
            models.get(model, model): tuple(_checked_workflow(name, folder) for name in files)
            for model, files in entry.workflows.items()
        },
        origin=f"{where}: url",
    )


def _key(entry: BackendEntry, folder: Path) -> str | None:
    if entry.key_file is None:
        return clean("key", entry.key) if entry.key else None
    if entry.key is not None:
        raise EntryWrong("key: is set, and so is key_file; set one of them")
    return clean("key_file", read_secret("key_file", folder / entry.key_file))


def _checked_workflow(name: str, folder: Path) -> str:
    """A relative path is one below the folder of the file, whatever the working directory is."""
    located = name if name in SHIPPED else str(folder / name)
    try:
        read_workflow(located)
    except Misconfigured as error:
        raise EntryWrong(f"workflows: {error.detail}") from error
    return located


def _label(number: int, table: object) -> str:
    name = table.get("name") if isinstance(table, dict) else None
    return f"{number} ({name[:40]!r})" if isinstance(name, str) else f"{number}"


def _reasons(error: ValidationError) -> Iterator[str]:
    for each in error.errors(include_url=False, include_input=False)[:5]:
        field = ".".join(map(str, each["loc"])) or "entry"
        yield f"{field}: {_plain(each)}"


def _plain(found: Any) -> str:
    if found["type"] == "extra_forbidden":
        return f"is unknown; there are {', '.join(BackendEntry.model_fields)}"
    if found["type"] == "missing":
        return "is missing"
    return str(found["msg"]).removeprefix("Value error, ")


def _wrong(detail: str) -> Misconfigured:
    return Misconfigured(detail, code="bad_setting")
