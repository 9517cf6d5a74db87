"""Comparison of a fake with the exchanges that were recorded with the real program."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

TRANSCRIPTS = Path(__file__).parents[1] / "transcripts"


def exchanges(name: str) -> list[dict]:
    found: list[dict] = json.loads((TRANSCRIPTS / name).read_text())
    return found


def shape(value: Any) -> Any:
    """The structure of JSON: keys and kinds of values. A list has the shape of its first item."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    if isinstance(value, bool) or value is None:
        return value if value is None else "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


def without(value: Any, *names: str) -> Any:
    return {key: inner for key, inner in value.items() if key not in names} if isinstance(value, dict) else value


async def send(http: aiohttp.ClientSession, url: str, exchange: dict, *, limit_s: float = 10) -> tuple[int, Any, str]:
    """Send the recorded request; the status, the answer and its content type."""
    method, path = exchange["request"].split(" ", 1)
    body = {"data": exchange["raw"]} if "raw" in exchange else {"json": exchange.get("b")}
    if method == "GET":
        body = {}
    async with (
        asyncio.timeout(limit_s),
        http.request(method, url + path, headers=exchange.get("h"), **body) as response,
    ):
        content = await response.read()
        if response.content_type == "application/json":
            return response.status, json.loads(content), response.content_type
        return response.status, f"<{len(content)} bytes> {content.decode()}", response.content_type


def label(exchange: dict) -> str:
    return f"{exchange['request']} {exchange.get('note', '')}".strip()
