"""The AsyncAPI 3.0 document of the bus, made from the models of its messages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from common.messages import CONTENT_TYPE, AnyImageEvent, Command, Event, Message, Tick
from services.api.routes.schema import REFERENCE_PREFIX, with_published_names

_REF: Final = REFERENCE_PREFIX + "{model}"
Channel = tuple[str, Literal["send", "receive"], tuple[type[Message], ...], str]
# what another service may do on each exchange; the names are those of the broker
_IMAGE_EVENTS: Final[tuple[type[Message], ...]] = get_args(AnyImageEvent)
_CHANNELS: Final[list[Channel]] = [
    ("image.commands", "send", get_args(Command), "commands; each is handled once"),
    ("image.events", "receive", _IMAGE_EVENTS, "events about images"),
    (
        "janitor.events",
        "receive",
        tuple(event for event in get_args(Event) if event not in _IMAGE_EVENTS),
        "events about Darkroom itself",
    ),
    ("image.timers", "send", (Tick,), "a tick outside the interval of its timer"),
]


@cache
def describe_bus() -> dict[str, Any]:
    """The document. Its channels are the exchanges of the broker."""
    models = sorted({model for _, _, messages, _ in _CHANNELS for model in messages}, key=_name)
    mode: JsonSchemaMode = "serialization"
    _, schemas = models_json_schema([(model, mode) for model in models], ref_template=_REF)
    channels, operations = {}, {}
    for address, action, messages, description in _CHANNELS:
        name = address.replace(".", "_")
        channels[name] = {
            "address": address.replace("janitor.events", "image.events"),
            "description": description,
            "messages": {model.__name__: {"$ref": f"#/components/messages/{model.__name__}"} for model in messages},
        }
        operations[f"{action}_{name}"] = {"action": action, "channel": {"$ref": f"#/channels/{name}"}}
    document = {
        "asyncapi": "3.0.0",
        "info": {"title": "Darkroom", "version": version("darkroom")},
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                model.__name__: {"contentType": CONTENT_TYPE, "payload": {"$ref": _REF.format(model=model.__name__)}}
                for model in models
            },
            "schemas": schemas["$defs"],
        },
    }
    return with_published_names(document)


def _name(model: type[BaseModel]) -> str:
    return model.__name__
