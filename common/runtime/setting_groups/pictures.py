"""Settings of picture files: their sizes, thumbnails, previews and provenance."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.runtime.setting_groups.group import SettingGroup
from common.runtime.setting_types import Count


class PictureSettings(SettingGroup):
    """Fields of `Settings`; `Settings` says what holds for all."""

    max_image_file_size: Annotated[Count, Field(ge=1024, le=1_073_741_824)] = Field(
        10_485_760, description="Largest accepted size of a picture file, in bytes"
    )
    max_image_pixels: Annotated[Count, Field(ge=4096, le=1_000_000_000)] = Field(
        16_777_216, description="Largest picture that is decoded, in pixels (width × height)"
    )
    thumbnail_size: Annotated[Count, Field(ge=16, le=2_048)] = Field(
        256, description="Longest side of a thumbnail, in pixels"
    )
    thumbnail_format: Literal["png", "jpeg", "webp"] | None = Field(
        None, description="Format of thumbnails: `png`, `jpeg` or `webp`; if unset, the format of the picture"
    )
    previews: bool = Field(True, description="Show previews while an image is painted, if the service sends them")
    embed_parameters: bool = Field(True, description="Write prompt and settings into pictures (docs/provenance.md)")
    c2pa_cert: str | None = Field(
        None,
        description="PEM file with the certificates that sign a C2PA manifest into pictures; needs the extra `c2pa`",
    )
    c2pa_key: str | None = Field(None, description="PEM file with the key of the first certificate in `C2PA_CERT`")
