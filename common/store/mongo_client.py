"""The connection of the MongoDB store to its database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any, Final
from urllib.parse import parse_qsl

from bson.codec_options import CodecOptions, DatetimeConversion
from dns.exception import DNSException
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo import ReadPreference
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from common.domain.errors import Misconfigured, Unavailable
from common.store.documents import Document

# AuthenticationFailed, Unauthorized, IndexOptionsConflict, IndexKeySpecsConflict (mongodb.com/docs, error codes, 7.0)
_OPERATOR_ERRORS: Final = frozenset({18, 13, 85, 86})


@asynccontextmanager
async def connect(url: str, *, timeout_s: float) -> AsyncIterator[AsyncIOMotorDatabase[Document]]:
    """The database that the URL names. The driver connects with the first command.

    Raises:
        Misconfigured: the URL is not valid, names no database, or asks for unconfirmed writes or reads of secondaries.
    """
    _require_confirmed_writes(url)
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
        if client.read_preference != ReadPreference.PRIMARY:
            # a secondary lags: it still shows the record before a write that the same caller has made
            raise Misconfigured("STORE_URL: readPreference must be primary", code="bad_setting")
        yield _database(client)
    finally:
        # in a thread: closing waits for a server that may not answer, and would block the event loop
        await asyncio.to_thread(client.close)


def _require_confirmed_writes(url: str) -> None:
    """Refuse `w=0`. Another value has no effect, as every write is confirmed by a majority; this one contradicts it."""
    options = {name.lower(): value for name, value in parse_qsl(url.partition("?")[2])}
    if options.get("w") == "0":
        raise Misconfigured("STORE_URL: w=0 is not supported: every write must be confirmed", code="bad_setting")


def misconfiguration(error: Unavailable) -> Misconfigured | None:
    """What an operator has to change if the first command failed with this error; None if it may just be retried."""
    cause = error.__cause__
    # mongodb+srv:// resolves its hosts only now; a name server that does not answer or know them yet is waited for
    if isinstance(cause, ConfigurationError) and not isinstance(cause.__cause__, DNSException):
        return Misconfigured("STORE_URL: its hosts cannot be looked up")
    if isinstance(cause, OperationFailure) and cause.code in _OPERATOR_ERRORS:
        return Misconfigured(f"STORE_URL: the database refused the connection or its indexes, with code {cause.code}")
    return None


def _database(client: AsyncIOMotorClient[Document]) -> AsyncIOMotorDatabase[Document]:
    options: CodecOptions[Any] = CodecOptions(
        tz_aware=True,
        tzinfo=UTC,
        # a date beyond Python's, or text that is not UTF-8, would fail the whole answer instead of one document
        datetime_conversion=DatetimeConversion.DATETIME_AUTO,
        unicode_decode_error_handler="replace",
    )
    try:
        return client.get_default_database(codec_options=options)
    except ConfigurationError:
        raise Misconfigured("STORE_URL: names no database: mongodb://host/database") from None
