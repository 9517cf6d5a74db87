"""The connection of the MongoDB store to its database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any, Final

from bson.codec_options import CodecOptions
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from common.domain.errors import Misconfigured, Unavailable
from common.store.documents import Document

# AuthenticationFailed, Unauthorized, IndexOptionsConflict, IndexKeySpecsConflict (mongodb.com/docs, error codes, 7.0)
_OPERATOR_ERRORS: Final = frozenset({18, 13, 85, 86})


@asynccontextmanager
async def connect(url: str, *, timeout_s: float) -> AsyncIterator[AsyncIOMotorDatabase[Document]]:
    """The database that the URL names. The driver connects with the first command.

    Raises:
        Misconfigured: the URL is not valid, or names no database.
    """
    timeout_ms = max(1, int(timeout_s * 1000))
    try:
        client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
            url,
            w="majority",
            journal=True,
            retryWrites=True,
            serverSelectionTimeoutMS=timeout_ms,
            connectTimeoutMS=timeout_ms,
            socketTimeoutMS=timeout_ms,
            appname="darkroom",
        )
    except (PyMongoError, ValueError) as error:
        # without the cause: its text may contain a part of the URL, and so of the password
        raise Misconfigured(f"STORE_URL: not a valid MongoDB URL ({type(error).__name__})") from None
    try:
        yield _database(client)
    finally:
        # in a thread: closing waits for a server that may not answer, and would block the event loop
        await asyncio.to_thread(client.close)


def misconfiguration(error: Unavailable) -> Misconfigured | None:
    """What an operator has to change if the first command failed with this error; None if it may just be retried."""
    cause = error.__cause__
    if isinstance(cause, ConfigurationError):  # mongodb+srv:// resolves its hosts only now
        return Misconfigured("STORE_URL: its hosts cannot be looked up")
    if isinstance(cause, OperationFailure) and cause.code in _OPERATOR_ERRORS:
        return Misconfigured(f"STORE_URL: the database refused the connection or its indexes, with code {cause.code}")
    return None


def _database(client: AsyncIOMotorClient[Document]) -> AsyncIOMotorDatabase[Document]:
    options: CodecOptions[Any] = CodecOptions(tz_aware=True, tzinfo=UTC)
    try:
        return client.get_default_database(codec_options=options)
    except ConfigurationError:
        raise Misconfigured("STORE_URL: names no database: mongodb://host/database") from None
