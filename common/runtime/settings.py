"""The settings of an operator, read once at the start (`common/runtime/reading_settings.py`).

The fields are in `common/runtime/setting_groups/`, a module for each subject. To add one, add a field to its group,
then write the output of `darkroom settings` into docs/settings.md.
"""

from __future__ import annotations

from datetime import timedelta

from common.runtime.addresses import path_of
from common.runtime.setting_groups.access import AccessSettings
from common.runtime.setting_groups.connections import ConnectionSettings
from common.runtime.setting_groups.events import EventSettings
from common.runtime.setting_groups.generator import GeneratorSettings
from common.runtime.setting_groups.inference import InferenceSettings
from common.runtime.setting_groups.janitor import JanitorSettings
from common.runtime.setting_groups.limits import LimitSettings
from common.runtime.setting_groups.objects import ObjectStoreSettings
from common.runtime.setting_groups.pictures import PictureSettings
from common.runtime.setting_groups.process import ProcessSettings
from common.runtime.setting_groups.serving import ServingSettings
from common.runtime.setting_groups.webhooks import WebhookSettings


# pydantic takes the fields of the last base first: from bottom to top, this is the order of docs/settings.md
class Settings(
    ProcessSettings,
    WebhookSettings,
    AccessSettings,
    EventSettings,
    ServingSettings,
    LimitSettings,
    JanitorSettings,
    GeneratorSettings,
    PictureSettings,
    InferenceSettings,
    ObjectStoreSettings,
    ConnectionSettings,
):
    """All settings; each field is the environment variable of the same name in upper case.

    A field with `repr=False` is a secret: it is never printed, and `<NAME>_FILE` may name a file that holds it.
    """

    @property
    def has_identity(self) -> bool:
        return self.api_keys or self.jwt_secret is not None or self.jwt_jwks_url is not None

    @property
    def retention(self) -> timedelta | None:
        """How long an image is kept; None means that it is never purged."""
        return None if self.retention_days is None else timedelta(days=self.retention_days)

    @property
    def base_path(self) -> str:
        """The path of PUBLIC_URL without a slash at its end."""
        return path_of(self.public_url)

    @property
    def media_prefix(self) -> str:
        prefix = self.media_url if self.media_url.endswith("/") else self.media_url + "/"
        is_below = prefix.startswith((f"{self.base_path}/", "//")) or not prefix.startswith("/")
        return prefix if is_below else self.base_path + prefix
