"""The model that SD.Next has in its memory.

SD.Next looks at the model of an order only to replace a loaded one. A new SD.Next has none until one is chosen, and
answers 200 without a picture. If it cannot load the model of an order, it tries again for minutes.
"""

from __future__ import annotations

from urllib.parse import quote

from common.domain.errors import Transient
from services.generator.inference.service_client import ServiceClient

_PATH = "/sdapi/v1/checkpoint"


async def has_model(client: ServiceClient) -> bool:
    """Whether a model is loaded; also true if the server does not say."""
    found = await client.ask(_PATH)
    return not isinstance(found, dict) or found.get("class") is not None


async def load_model(client: ServiceClient, title: str, *, limit_s: float) -> None:
    """Load this model, which may take minutes.

    Raises:
        Transient: it cannot be loaded; others may be.
    """
    await client.ask(f"{_PATH}?sd_model_checkpoint={quote(title, safe='')}", method="POST", limit_s=limit_s)
    if not await has_model(client):  # "ok" in its answer is false for a loaded model too
        raise Transient(f"SD.Next cannot load the model {title!r}: its log has the reason")
