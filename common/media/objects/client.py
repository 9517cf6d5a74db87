"""Clients of an object store, made from the settings.

Requests are repeated after a 5xx answer, a broken connection or a timeout, for as long as one answer may take.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from obstore.exceptions import BaseError
from obstore.store import S3Store

from common.domain.errors import Misconfigured
from common.media.objects.location import Location
from common.runtime.setting_groups.objects import ObjectStoreSettings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

RETRIES: Final = 3
_CONNECT_S: Final = 5.0


def open_client(location: Location, settings: ObjectStoreSettings) -> S3Store:
    """
    Raises:
        Misconfigured: the settings do not fit together.
    """
    return _client(location, settings, settings.aws_endpoint_url)


def open_signer(location: Location, settings: ObjectStoreSettings) -> S3Store | None:
    """A client that signs URLs for browsers, and sends nothing. None without MEDIA_PUBLIC_ENDPOINT.

    The host is a part of what is signed: a URL for the other endpoint cannot be changed to this one.
    """
    endpoint = settings.media_public_endpoint
    return None if endpoint is None else _client(location, settings, endpoint)


def _client(location: Location, settings: ObjectStoreSettings, endpoint: str | None) -> S3Store:
    if (settings.aws_access_key_id is None) != (settings.aws_secret_access_key is None):
        raise Misconfigured("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: set both or none", code="bad_setting")
    try:
        return S3Store(
            location.bucket,
            prefix=location.prefix or None,
            config=_config(settings, endpoint),
            client_options=_options(settings, endpoint),
            retry_config=_retries(settings),
        )
    except BaseError as error:  # without its text, which may hold what was set
        raise Misconfigured("MEDIA_ROOT: the settings AWS_… are not valid", code="bad_setting") from error


def _config(settings: ObjectStoreSettings, endpoint: str | None) -> S3Config:
    config: S3Config = {
        "virtual_hosted_style_request": False,
        # MinIO and Google refuse requests that remove many objects
        "disable_bulk_delete": settings.aws_endpoint_url is not None,
    }
    if endpoint is not None:
        config["endpoint"] = endpoint.rstrip("/")
    if settings.aws_region is not None:
        config["region"] = settings.aws_region
    if settings.aws_access_key_id is not None and settings.aws_secret_access_key is not None:
        config["access_key_id"] = settings.aws_access_key_id
        config["secret_access_key"] = settings.aws_secret_access_key
    if settings.aws_session_token is not None:
        config["session_token"] = settings.aws_session_token
    return config


def _options(settings: ObjectStoreSettings, endpoint: str | None) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": (endpoint or "").startswith("http://"),
        "timeout": timedelta(seconds=settings.media_timeout),
        "connect_timeout": timedelta(seconds=min(_CONNECT_S, settings.media_timeout)),
    }
    if settings.aws_ca_bundle is not None:
        try:
            options["root_certificate"] = Path(settings.aws_ca_bundle).read_bytes()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Misconfigured(f"AWS_CA_BUNDLE: the file cannot be read: {reason}", code="bad_setting") from error
    return options


def _retries(settings: ObjectStoreSettings) -> RetryConfig:
    return {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=settings.media_timeout),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=2),
            "base": 2,
        },
    }
