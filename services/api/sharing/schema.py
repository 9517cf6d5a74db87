"""The models of requests and answers about share links."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from common.domain.requests import integral
from common.domain.views import Outgoing, Time

MIN_LIFETIME_S: Final = 60
MAX_LIFETIME_S: Final = 30 * 86_400


class ShareRequest(BaseModel):
    """How long a link to a picture works, and whether it shows the prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True)

    expires_in: Annotated[
        int, Field(ge=MIN_LIFETIME_S, le=MAX_LIFETIME_S, description="Seconds"), BeforeValidator(integral)
    ]
    show_prompt: Annotated[
        bool,
        Field(
            description="The page shows the prompt, and the file has the settings that are embedded in it; if false, "
            "the link serves a copy without them"
        ),
    ] = False


class ShareAnswer(Outgoing):
    """A link to a picture. Everyone who has `url` can see it, until it expires or is revoked."""

    id: str
    url: Annotated[str, Field(description="Absolute if `PUBLIC_URL` is set")]
    created_at: Time
    expires_at: Time
    show_prompt: bool


class SharesAnswer(Outgoing):
    """The links of a picture that work now, oldest first; there can be `limit` of them."""

    shares: list[ShareAnswer]
    limit: int
    can_hide_prompt: Annotated[
        bool, Field(description="False if the file is signed (C2PA): a copy without the settings would lose that")
    ]
