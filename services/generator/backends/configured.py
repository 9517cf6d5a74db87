"""The back ends that the settings name.

INFERENCE_SERVICE_URL   one URL, or several with spaces between them; each is named by its host and port
BACKENDS                a TOML file with a name, a key and figures for each
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from common.domain.errors import Misconfigured
from common.domain.texts import clean_text
from common.runtime.settings import Settings
from services.generator.backends.definition import BackendDefinition
from services.generator.backends.toml_file import read_backends

MAX_NAME: Final = 100  # characters; a heartbeat, a lease and the metrics have it
_PORTS: Final = {"http": 80, "https": 443}


def configured_backends(settings: Settings) -> tuple[BackendDefinition, ...]:
    """The back ends that the settings name; empty if they name none.

    Raises:
        Misconfigured: the settings contradict each other, or the file is wrong.
    """
    if settings.backends is None:
        return backends_at(settings.inference_service_url, settings)
    for name, value in (
        ("INFERENCE_SERVICE_URL", settings.inference_service_url),
        ("INFERENCE_SERVICE_API_KEY", settings.inference_service_api_key),
    ):
        if value:
            raise Misconfigured(
                f"BACKENDS: is set, and so is {name}; set one of them, since the file has the URL and the key of each",
                code="bad_setting",
            )
    return read_backends(Path(settings.backends), concurrency=settings.generator_concurrency)


def backends_at(urls: Sequence[str], settings: Settings) -> tuple[BackendDefinition, ...]:
    """A back end at each of these URLs, with the key and the concurrency of the settings.

    Raises:
        Misconfigured: there is a key, and the URLs have several origins: each would learn the key of the others.
    """
    key = settings.inference_service_api_key
    if key and len({_origin(url) for url in urls}) > 1:
        raise Misconfigured(
            "INFERENCE_SERVICE_API_KEY: INFERENCE_SERVICE_URL names several origins, and each of them would get the "
            "key; give each its own in the file that BACKENDS names",
            code="bad_setting",
        )
    return tuple(
        BackendDefinition(name, url, settings.generator_concurrency, api_key=key)
        for name, url in zip(_names(urls), urls, strict=True)
    )


def _names(urls: Sequence[str]) -> list[str]:
    """Host and port of each, with a number if several have the same."""
    seen = Counter[str]()
    names = []
    for url in urls:
        parts = urlsplit(url)
        name = clean_text(parts.netloc.rpartition("@")[2].lower() or parts.scheme, MAX_NAME - 4)
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    transport = parts.scheme.rpartition("+")[2]
    return transport, parts.hostname, parts.port or _PORTS.get(transport)
