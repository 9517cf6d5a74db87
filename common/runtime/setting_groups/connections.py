"""Settings of the bus, the store, the media and the addresses of the processes."""

from __future__ import annotations

from pydantic import Field

from common.runtime.setting_groups.group import SettingGroup
from common.runtime.setting_types import Host, Port, Prefix


class ConnectionSettings(SettingGroup):
    """Fields of `Settings`; `Settings` says what holds for all."""

    bus_url: str = Field(
        "memory://",
        description="Message bus: `memory://` (one process) or `amqp://user:password@host,host/vhost`",
        repr=False,
    )
    bus_password: str | None = Field(
        None,
        description="Password of the user that `BUS_URL` names, in place of the one there; with any characters",
        repr=False,
    )
    bus_prefix: Prefix = Field(
        "", description="Begins the names of all exchanges and queues, so that deployments can share a virtual host"
    )
    store_url: str = Field(
        "sqlite:///var/darkroom.db",
        description="Record store: `sqlite:///path` or `mongodb://host/database`",
        repr=False,
    )
    media_root: str = Field(
        "var/media",
        description="Pictures and thumbnails: a folder that all services can access, or `s3://bucket/prefix`",
    )
    media_url: str = Field("/media/", description="URL prefix under which the pictures are served; ends with a slash")
    api_host: Host = Field("127.0.0.1", description="Address the api listens on")
    api_port: Port = Field(8000, description="Port of the api; 0 selects a free port")
    inference_host: Host = Field("127.0.0.1", description="Address the reference inference server listens on")
    inference_port: Port = Field(8001, description="Port of the reference inference server; 0 selects a free port")
    health_host: Host = Field("127.0.0.1", description="Address where generator and janitor serve health and metrics")
    health_port: Port = Field(0, description="Port where generator and janitor serve health and metrics; 0 disables it")
