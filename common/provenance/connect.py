"""The marks of a generator, as its settings say."""

from __future__ import annotations

from datetime import datetime

from common.domain.errors import Misconfigured
from common.provenance.marks import Marker, Sign
from common.runtime.settings import Settings


def marker_of(settings: Settings, now: datetime) -> Marker:
    """What marks the pictures of a generator.

    Raises:
        Misconfigured: C2PA_CERT and C2PA_KEY cannot sign.
    """
    sign = _sign(settings.c2pa_cert, settings.c2pa_key, now)
    return Marker(embeds_parameters=settings.embed_parameters, max_bytes=settings.max_image_file_size, sign=sign)


def _sign(certificates: str | None, key_file: str | None, now: datetime) -> Sign | None:
    if certificates is None and key_file is None:
        return None
    if certificates is None or key_file is None:
        raise Misconfigured("C2PA_CERT, C2PA_KEY: set both or neither", code="bad_setting")
    from common.provenance.manifest import signing

    return signing(certificates, key_file, now)
