"""`darkroom media`: which store the media belong to."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from services.cli import media_copy
from services.cli.console import CommandFailed, add_command, load_settings

if TYPE_CHECKING:
    from common.runtime.settings import Settings
    from services.cli.console import Subparsers


def add_parsers(commands: Subparsers) -> None:
    media = add_command(commands, "media", "check that the media folder belongs to the store, or take it over", _media)
    media.add_argument("--adopt", action="store_true", help="mark the folder as this store's, whoever it belonged to")
    actions = media.add_subparsers(metavar="ACTION", dest="action", help="without one, the check")
    media_copy.add_parser(actions)


def _media(arguments: argparse.Namespace) -> int:
    if arguments.action == "copy":
        return media_copy.copy_media(arguments)
    return _check(arguments)


def _check(arguments: argparse.Namespace) -> int:
    import asyncio

    from common.domain.errors import ServiceError

    settings = load_settings()
    try:
        difference = asyncio.run(_claim(settings, adopt=arguments.adopt))
    except ServiceError as error:
        raise CommandFailed(f"{error.code}: {error.detail}") from error
    print(f"{settings.media_root} belongs to this store")
    if difference:
        print(f"{difference}; `darkroom sweep --dry-run` counts what differs, and --adopt lets a sweep remove it")
    return 0


async def _claim(settings: Settings, *, adopt: bool) -> str | None:
    """Why store and media are not of the same time, or None."""
    from common.application.media_owner import claim_media
    from common.application.operation.checkpoint import read_checkpoints
    from common.media.connect import open_media
    from common.store.connect import open_store

    async with (
        open_store(settings.store_url, timeout_s=settings.store_timeout) as store,
        open_media(settings.media_root, settings) as media,
    ):
        await claim_media(store, media, adopt=adopt)
        return (await read_checkpoints(store, media)).difference
