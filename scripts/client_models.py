"""Writes the models of the client library from those of the server, so that both have one source.

    services.api and common.messages ──▶ clients/python/darkroom_client/models.py, messages.py

`make client-models` runs it; a test fails when the files are older than their source.
"""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import EnumType
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from common import messages
from common.domain.images import Status
from common.domain.requests import GenerationRequest
from common.domain.views import BatchView, FailureView, ImageView, ParametersView
from services.api.history.query import HistoryPage
from services.api.presenter import HistoryItem, ImageAnswer
from services.api.routes import schema

PACKAGE: Final = Path(__file__).parents[1] / "clients/python/darkroom_client"
NAMES: Final[Mapping[type, str]] = {  # where the client's name is another one
    ParametersView: "Parameters",
    FailureView: "Failure",
    BatchView: "Batch",
    ImageAnswer: "ImageFields",
    ImageView: "Image",
    schema.ModelAnswer: "OfferedModel",
    schema.ModelsAnswer: "Offers",
    messages.NoData: "Nothing",
    messages.RequestRefused: "OrderRefused",
}
ANSWERS: Final[list[type[BaseModel]]] = [
    ParametersView,
    FailureView,
    BatchView,
    ImageAnswer,
    HistoryItem,
    HistoryPage,
    schema.ModelAnswer,
    schema.ModelsAnswer,
    schema.Limit,
    schema.Limits,
]
BUS: Final[list[type[BaseModel]]] = [
    GenerationRequest,
    messages.NoData,
    messages.CancelData,
    messages.Progress,
    messages.Deleted,
    messages.RequestRefused,
    messages.PurgeReport,
    messages.SweepReport,
    messages.GenerateImage,
    messages.CancelImage,
    messages.ImageChanged,
    messages.ImageProgressed,
    messages.ImageDeleted,
    messages.JanitorPurged,
    messages.JanitorSwept,
]
SENT: Final = {GenerationRequest}  # checked before it is sent, because a refusal comes too late
EMPTY: Final[Mapping[object, str]] = {
    str: '""',
    int: "0",
    float: "0.0",
    bool: "False",
    datetime: "EPOCH",
    AwareDatetime: "EPOCH",
    list: "[]",
    dict: "{}",
}
IDENTIFYING: Final = frozenset({"id", "status", "type", "data"})
STEPS: Final = frozenset({"step", "steps"})
PLAIN: Final[Mapping[object, str]] = {type(None): "None", AwareDatetime: "datetime", datetime: "datetime", Any: "Any"}
LIMITS: Final = {
    "minimum": "ge",
    "maximum": "le",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
}
HEADER: Final = '"""{subject}\n\nMade by `make client-models` from the models of the server; not edited by hand.\n"""\n'


def models_source() -> str:
    parts = [
        HEADER.format(subject="What the server answers with."),
        "from __future__ import annotations\n\nfrom datetime import datetime\nfrom enum import StrEnum\n",
        "from darkroom_client.reading import EPOCH, Id, Model\n",
        _enum(Status),
        *map(_class, ANSWERS),
        _IMAGE,
    ]
    return formatted("\n\n".join(parts))


def messages_source() -> str:
    events = "ImageChanged | ImageProgressed | ImageDeleted | JanitorPurged | JanitorSwept"
    parts = [
        HEADER.format(subject="The messages on the bus, as CloudEvents 1.0."),
        "from __future__ import annotations\n\nfrom datetime import datetime\n",
        "from typing import Annotated, Any, Literal\n\nfrom pydantic import Field\n",
        "from darkroom_client.models import Batch, Failure, Image, Status\n",
        "from darkroom_client.reading import EPOCH, Id, Model, Sent\n",
        *map(_class, BUS),
        f"Command = GenerateImage | CancelImage\nBusEvent = {events}\n",
    ]
    return formatted("\n\n".join(parts))


_IMAGE: Final = '''
class Image(ImageFields):
    """An image: its request, its state and, when it is completed, where its picture is."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status not in {Status.QUEUED, Status.RUNNING}

    @property
    def is_completed(self) -> bool:
        """Whether its picture can be downloaded."""
        return self.status == Status.COMPLETED

    @property
    def file_name(self) -> str:
        """`<id>.<extension>`, for the file of its picture."""
        return f"{self.id}.{'jpg' if self.format == 'jpeg' else self.format or 'png'}"
'''


def _enum(kind: EnumType) -> str:
    members: Iterable[Any] = kind
    return f"class {kind.__name__}(StrEnum):\n" + "".join(f"    {each.name} = {each.value!r}\n" for each in members)


def _class(model: type[BaseModel]) -> str:
    base = "Sent" if model in SENT else "Model"
    lines = [f"class {_name(model)}({base}):"]
    if model.__doc__ and model.__doc__ != BaseModel.__doc__:
        lines.append(f'    """{model.__doc__.strip()}"""\n')
    fields = [_field(name, field, model) for name, field in model.model_fields.items()]
    # a field without a default comes first
    lines += sorted(fields, key=lambda line: " = " in line)
    return "\n".join(lines if len(lines) > 1 else [*lines, "    pass"]) + "\n"


def _field(name: str, field: FieldInfo, model: type[BaseModel]) -> str:
    text = "Id" if name == "id" and issubclass(model, ImageView | HistoryItem) else _text(field.annotation)
    if model in SENT:
        text = _limited(text, name, model)
    default = _default(name, field, model)
    return f"    {name}: {text}" + (f" = {default}" if default else "")


def _default(name: str, field: FieldInfo, model: type[BaseModel]) -> str:
    """The source of the default; empty for a field that must be there."""
    if field.default is not PydanticUndefined:
        if isinstance(field.default, BaseModel):
            return f"{_name(type(field.default))}()"
        return repr(getattr(field.default, "value", field.default))
    is_needed = name in IDENTIFYING or model in SENT or (model is messages.Progress and name in STEPS)
    return "" if is_needed else _empty(field.annotation)


def _empty(annotation: Any) -> str:
    """The source of the value of a field that an answer lacks."""
    if type(None) in get_args(annotation):
        return "None"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"{_name(annotation)}()"
    return EMPTY.get(annotation) or EMPTY[get_origin(annotation)]


def _limited(text: str, name: str, model: type[BaseModel]) -> str:
    """The type with the limits that the schema of the field has."""
    schema_of: dict[str, Any] = model.model_json_schema(by_alias=False)["properties"][name]
    limits = [f"{ours}={schema_of[theirs]!r}" for theirs, ours in LIMITS.items() if theirs in schema_of]
    return f"Annotated[{text}, Field({', '.join(limits)})]" if limits else text


def _name(model: type) -> str:
    return NAMES.get(model) or str(getattr(model, "model_config", {}).get("title") or model.__name__)


def _text(annotation: Any) -> str:
    """The source of a type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _text(arguments[0])
    if origin in {Union, types.UnionType}:
        return " | ".join(dict.fromkeys(map(_text, arguments)))
    if origin is Literal:
        return f"Literal[{', '.join(repr(getattr(each, 'value', each)) for each in arguments)}]"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(_text, arguments))}]"
    return PLAIN.get(annotation) or _name(annotation)


def formatted(source: str) -> str:
    """The source in the form of the repository."""
    ruff = [sys.executable, "-m", "ruff"]
    checked = [*ruff, "check", "-q", "--fix", "--select", "I,F401", "--stdin-filename", str(PACKAGE / "made.py"), "-"]
    for command in (checked, [*ruff, "format", "-q", "--stdin-filename", str(PACKAGE / "made.py"), "-"]):
        source = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    return source


SOURCES: Final = {"models.py": models_source, "messages.py": messages_source}


def main() -> None:
    for name, source in SOURCES.items():
        (PACKAGE / name).write_text(source())


if __name__ == "__main__":
    main()
