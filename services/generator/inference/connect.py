"""The scheme of `INFERENCE_SERVICE_URL` chooses the back end."""

from __future__ import annotations

from typing import Final

import aiohttp
from multidict import MultiMapping
from yarl import URL

from common.domain.errors import Misconfigured
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from services.generator.inference.port import InferenceBackend

SCHEMES: Final = ("http://", "https://", "comfyui+http://", "comfyui+https://")


def connect_inference(url: str, *, http: aiohttp.ClientSession, settings: Settings, clock: Clock) -> InferenceBackend:
    """The back end at this URL. Nothing is sent yet, and `http` stays the caller's.

    Raises:
        Misconfigured: no back end has this scheme. The text does not hold the URL, which may hold a password.
    """
    scheme = url.partition("://")[0].lower()
    if scheme in {"http", "https"}:
        from services.generator.inference.native import NativeBackend

        return NativeBackend(
            http,
            url=url,
            api_key=settings.inference_service_api_key,
            timeout_s=settings.inference_timeout,
            max_bytes=settings.max_image_file_size,
            clock=clock,
        )
    if scheme in {"comfyui+http", "comfyui+https"}:
        from services.generator.inference.comfyui.backend import ComfyuiBackend

        base, parameters = _with_parameters(url.partition("+")[2], allowed={"workflow"})
        return ComfyuiBackend(
            http,
            url=base,
            workflows=parameters.getall("workflow", []),
            api_key=settings.inference_service_api_key,
            timeout_s=settings.inference_timeout,
            max_bytes=settings.max_image_file_size,
            clock=clock,
        )
    raise Misconfigured(f"INFERENCE_SERVICE_URL: must start with one of {', '.join(SCHEMES)}", code="bad_setting")


def _with_parameters(url: str, *, allowed: set[str]) -> tuple[URL, MultiMapping[str]]:
    """The URL without its query, and the parameters of the query. Raises Misconfigured."""
    parsed = URL(url)
    if unknown := parsed.query.keys() - allowed:
        raise Misconfigured(f"INFERENCE_SERVICE_URL: has no parameter {', '.join(sorted(unknown))}", code="bad_setting")
    return parsed.with_query(None).with_fragment(None), parsed.query
