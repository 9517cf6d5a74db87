"""The model that SD.Next has loaded.

SD.Next loads the model of an order in place of the loaded one only. With none loaded, which is its state until a model
was chosen for the first time, it answers 200 without a picture.
"""

from __future__ import annotations

from urllib.parse import quote

from common.domain.errors import Transient
from services.generator.inference.service_client import ServiceClient

_PATH = "/sdapi/v1/checkpoint"


async def has_loaded_model(client: ServiceClient) -> bool:
    """True also for a server without this route."""
    found = await client.ask(_PATH)
    return not isinstance(found, dict) or found.get("class") is not None


async def load_model(client: ServiceClient, title: str, *, limit_s: float) -> None:
    """Load this model, which may take minutes.

    Raises:
        Transient: it cannot be loaded; others may be.
    """
    await client.ask(f"{_PATH}?sd_model_checkpoint={quote(title, safe='')}", method="POST", limit_s=limit_s)
    if not await has_loaded_model(client):  # "ok" in its answer is false for a loaded model too
        raise Transient(f"SD.Next cannot load the model {title!r}: its log has the reason")
