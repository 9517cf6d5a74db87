"""`darkroom keys`: creation, listing and revocation of API keys in the store of the settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from services.cli.console import CommandFailed, add_command, load_settings, parse_age, print_message

if TYPE_CHECKING:
    from common.application.api_keys import ApiKeyStore
    from common.runtime.settings import Settings
    from services.cli.console import Subparsers


def add_parsers(commands: Subparsers) -> None:
    keys = add_command(commands, "keys", "create, list and revoke API keys", _keys)
    actions = keys.add_subparsers(metavar="ACTION", required=True, dest="action")
    creation = actions.add_parser("create", help="create a key; it is printed once")
    creation.add_argument("owner", help="the owner whose images the key gives access to")
    creation.add_argument("--name", default="", help="a name for the key, shown by `list`")
    creation.add_argument("--expires", metavar="AGE", help="for example 90d or 12h (default: never)")
    creation.add_argument("--webhook", metavar="URL", help="the webhook of orders with this key that name none")
    actions.add_parser("list", help="list all keys by id")
    revocation = actions.add_parser("revoke", help="revoke a key at once")
    revocation.add_argument("id", help="id of the key, from `list`")


def _keys(arguments: argparse.Namespace) -> int:
    expires_in_s = parse_age(getattr(arguments, "expires", None), option="--expires")
    settings = load_settings()
    actions: dict[str, Callable[[ApiKeyStore], Coroutine[Any, Any, int]]] = {
        "create": lambda keys: create(
            keys, settings, arguments.owner, name=arguments.name, expires_in_s=expires_in_s, webhook=arguments.webhook
        ),
        "list": list_keys,
        "revoke": lambda keys: revoke(keys, arguments.id),
    }
    return _run_on_keys(settings, actions[arguments.action])


def _run_on_keys(settings: Settings, action: Callable[[ApiKeyStore], Coroutine[Any, Any, int]]) -> int:
    """Run the action on the keys in the store; returns its exit status."""
    import asyncio

    from common.application.api_keys import ApiKeyStore
    from common.domain.errors import ServiceError
    from common.runtime.clock import SystemClock
    from common.store.connect import open_store

    async def run() -> int:
        async with open_store(settings.store_url, timeout_s=settings.store_timeout) as store:
            return await action(ApiKeyStore(store, SystemClock()))

    try:
        return asyncio.run(run())
    except ServiceError as error:
        raise CommandFailed(f"{error.code}: {error.detail}") from error


async def create(
    keys: ApiKeyStore,
    settings: Settings,
    owner: str,
    *,
    name: str = "",
    expires_in_s: float | None = None,
    webhook: str | None = None,
) -> int:
    """Print the new key alone on stdout. It cannot be shown again.

    Raises:
        Invalid: the owner or the webhook is not valid.
        Forbidden: with these settings, orders with this webhook would be refused.
    """
    from common.application.webhooks.destinations import Destinations
    from common.domain.webhooks import parse_webhook

    if webhook is not None:
        Destinations.of(settings).require(parse_webhook(webhook))
    expires_at = None if expires_in_s is None else keys.clock.now() + timedelta(seconds=expires_in_s)
    key = await keys.create(owner, name=name, expires_at=expires_at, webhook=webhook)
    sys.stdout.write(f"{key}\n")
    print_message("save the key now: only its hash is stored, so it cannot be shown again")
    if not settings.has_identity:
        print_message("the api does not check keys yet: set API_KEYS=true, or set up tokens (docs/security.md)")
    return 0


async def list_keys(keys: ApiKeyStore) -> int:
    """Print one line for each key, oldest first; never the key itself, and of its webhook the host only."""
    from common.domain.webhooks import webhook_host

    found = await keys.list_all()
    for key in found:
        expires = _date(key.expires_at) if key.expires_at else "never"
        note = "  (expired)" if key.has_expired(keys.clock.now()) else ""
        webhook = f"  webhook {webhook_host(key.webhook)}" if key.webhook else ""
        line = f"{key.id}  {_date(key.created_at)}  expires {expires}{note}  {key.owner}  {key.name}{webhook}"
        sys.stdout.write(f"{line}\n")
    print_message(f"{len(found)} keys")
    return 0


async def revoke(keys: ApiKeyStore, key_id: str) -> int:
    """Revoke a key; the next request with it is refused."""
    if await keys.revoke(key_id):
        return 0
    print_message(f"there is no key {key_id}; `darkroom keys list` shows the ids")
    return 1


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
