"""The traces of a process, on if the settings name a collector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.domain.errors import Misconfigured
from common.runtime.settings import Settings
from common.runtime.tracing.spans import recording


@asynccontextmanager
async def tracing(settings: Settings, *, service: str) -> AsyncIterator[None]:
    """Record the spans of the service in the context, and send the last of them at its end.

    Raises:
        Misconfigured: OTEL_EXPORTER_OTLP_ENDPOINT is set, and the extra `otel` is not installed.
    """
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint is None:
        yield
        return
    try:
        from common.runtime.tracing.otel import open_tracer
    except ImportError as error:
        raise Misconfigured(
            f"OTEL_EXPORTER_OTLP_ENDPOINT: needs the packages of the extra, pip install 'darkroom[otel]': {error}",
            code="bad_setting",
        ) from error
    tracer = open_tracer(endpoint, service=service)
    try:
        with recording(tracer):
            yield
    finally:
        await asyncio.to_thread(tracer.close)
