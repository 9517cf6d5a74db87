"""The model that SD.Next has in its memory.

SD.Next looks at the model of an order only to replace a loaded one. A new SD.Next has none until one is chosen, and
answers 200 without a picture. If it cannot load the model of an order, it tries again for minutes.
"""

from __future__ import annotations

from urllib.parse import quote

from common.domain.errors import Transient
from services.generator.inference.service_client import ServiceClient

_PATH = "/sdapi/v1/checkpoint"


async def loaded_title(client: ServiceClient) -> str | None:
    """The title of the loaded model; None if there is none; empty if the server does not say."""
    found = await client.ask(_PATH)
    if not isinstance(found, dict):
        return ""
    if found.get("class") is None:
        return None
    return found["title"] if isinstance(found.get("title"), str) else ""


async def load_model(client: ServiceClient, title: str, *, limit_s: float) -> None:
    """Load this model, which may take minutes.

    Raises:
        Transient: it cannot be loaded; others may be.
    """
    await client.ask(f"{_PATH}?sd_model_checkpoint={quote(title, safe='')}", method="POST", limit_s=limit_s)
    if await loaded_title(client) is None:  # "ok" in its answer is false for a loaded model too
        raise Transient(f"SD.Next cannot load the model {title!r}: its log has the reason")
