"""How answers and messages of the server are read: older and newer servers are understood too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)  # a time that the server did not send
# an id becomes a part of URLs, and the name of a file
Id = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z-]{0,63}$")]


class Model(BaseModel):
    """The root of what is read: unknown fields are ignored, a missing one has an empty value."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Sent(Model):
    """The root of what is only sent: an unknown field is an error here, as it is one there."""

    model_config = ConfigDict(extra="forbid", strict=True)
