"""The scheme of a URL chooses the back end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from common.domain.errors import Misconfigured
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from services.generator.inference.port import BackendOptions, InferenceBackend

_BACKENDS: Final = {
    "": "native.backend.NativeBackend",
    "comfyui": "comfyui.backend.ComfyuiBackend",
    "sdapi": "sdapi.backend.SdApiBackend",
    "cog": "cog.backend.CogBackend",
    "openai": "openai.backend.OpenAiBackend",
}
_SCHEMES: Final = ("http://", "https://", *(f"{dialect}+http://" for dialect in _BACKENDS if dialect))


def connect_inference(url: str, *, http: aiohttp.ClientSession, settings: Settings, clock: Clock) -> InferenceBackend:
    """The back end at this URL, with the key of the settings. As `connect_backend`."""
    return connect_backend(url, http=http, settings=settings, clock=clock, api_key=settings.inference_service_api_key)


def connect_backend(
    url: str,
    *,
    http: aiohttp.ClientSession,
    settings: Settings,
    clock: Clock,
    api_key: str | None,
    workflows: Mapping[str, tuple[str, ...]] | None = None,
    origin: str = "INFERENCE_SERVICE_URL",
) -> InferenceBackend:
    """The back end at this URL. Nothing is sent yet, and `http` stays the caller's. `origin` is where it is configured.

    Raises:
        Misconfigured: no back end has this scheme, a parameter of the URL is wrong, or there are two credentials. The
            text names the origin. It does not hold the URL, which may hold a password.
    """
    scheme = url.partition("://")[0].lower()
    if (backend := _backend(scheme)) is None:
        raise Misconfigured(f"{origin}: must start with one of {', '.join(_SCHEMES)}", code="bad_setting")
    if api_key and "@" in urlsplit(url).netloc:
        raise Misconfigured(
            f"{origin}: the URL holds a user, and there is a key (INFERENCE_SERVICE_API_KEY, or the key of a back "
            "end); only one of the two can be sent",
            code="bad_setting",
        )
    options = BackendOptions(
        http,
        url=url,
        api_key=api_key,
        timeout_s=settings.inference_timeout,
        max_bytes=settings.max_image_file_size,
        clock=clock,
        workflows=workflows or {},
    )
    try:
        return backend(options)
    except Misconfigured as error:
        raise Misconfigured(f"{origin}: {error.detail}", code=error.code) from error


def _backend(scheme: str) -> Callable[[BackendOptions], InferenceBackend] | None:
    dialect, _, transport = scheme.rpartition("+")
    if transport not in {"http", "https"} or dialect not in _BACKENDS:
        return None
    module, _, name = _BACKENDS[dialect].rpartition(".")
    backend: Callable[[BackendOptions], InferenceBackend] = getattr(import_module(f"{__package__}.{module}"), name)
    return backend
