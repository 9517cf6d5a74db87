"""Logs and errors without secrets, tokens, tickets, signatures or prompts."""

import asyncio
import json
import os
from subprocess import PIPE, STDOUT

import aiohttp
import pytest
from yarl import URL

from common.application.api_keys import ApiKeyStore
from common.runtime.clock import SystemClock
from common.store.sqlite import SqliteStore
from tests.cluster import ORDER, embedded
from tests.inference_double import inference_double, status
from tests.security import callers
from tests.servers.fork_server import forked_python

PROMPT = "a zebra on the moon\n2025-01-15T12:00:00Z [error] forged line\r\x1b[2J"
SAID = "a zebra on the moon \u2028 of my own"


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.fault(row=68)
async def test_logs_hold_no_secret_no_prompt_and_no_forged_line(tmp_path, log_format):
    """Requests with every kind of secret, at log level DEBUG; then the whole log is searched for them."""
    async with (
        inference_double() as inference,
        embedded(
            tmp_path,
            INFERENCE_SERVICE_URL=inference.url,
            INFERENCE_SERVICE_API_KEY="the-key-of-the-inference-service",
            LOG_LEVEL="DEBUG",
            LOG_FORMAT=log_format,
            **callers.settings_of(),
        ) as cluster,
        aiohttp.ClientSession() as http,
    ):
        async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
            key = await ApiKeyStore(store, SystemClock()).create("ada")
        token, forged = callers.token(), callers.token(aud="another service")
        inference.will(status(422, "bad prompt:\n[error] forged line of the inference service\x1b[2J"))
        orders = f"{cluster.url}/v1/images/generations"

        async def ask(method, url, **more):
            async with http.request(method, url, **more) as response:
                return response.status, await response.text(errors="replace")

        bearer = {"Authorization": f"Bearer {token}"}
        refused = await ask("POST", orders, json={**ORDER, "prompt": PROMPT}, headers=bearer)
        failed = await ask("POST", orders, json={**ORDER, "prompt": SAID}, headers=bearer)
        done = await ask("POST", orders, json={**ORDER, "prompt": SAID}, headers={"Authorization": f"Bearer {key}"})
        _, ticket = await ask("POST", f"{cluster.url}/api/ws-tickets/", headers=bearer)
        signature = URL(json.loads(done[1])["imageUrl"]).query["signature"]
        await ask("GET", cluster.url + json.loads(done[1])["imageUrl"])
        await ask("GET", f"{cluster.url}/api/limits/", headers={"Authorization": f"Bearer {forged}"})
        await ask("GET", f"{cluster.url}/api/limits/?access_token={token}")
        await ask("GET", f"{cluster.url}/ws?ticket={json.loads(ticket)['ticket']}")
        await ask("GET", f"{cluster.url}/nowhere%0A[error]%20forged?token={token}")
        await _send_no_http(cluster.api_port, token)
        await cluster.services["up"].stop()
        log = (tmp_path / "up.log").read_text()

    assert (refused[0], failed[0], done[0]) == (400, 422, 201)
    assert SAID not in failed[1].partition('"image"')[0], "the reason of a failure does not repeat the prompt"
    secrets = {
        "the secret": callers.SECRET,
        "the signing key": callers.SIGNING,
        "the service's key": "the-key-of-the-inference-service",
        "a token": token.split(".")[2],
        "a forged token": forged.split(".")[2],
        "an API key": key,
        "a ticket": json.loads(ticket)["ticket"],
        "a signature": signature,
        "a prompt": "zebra",
        "an escape": "\x1b",
    }
    assert [what for what, secret in secrets.items() if secret in log] == []
    assert not [line for line in log.splitlines() if line.startswith("[error] forged")]
    if log_format == "json":
        for line in log.splitlines():
            assert not line.startswith("{") or json.loads(line)


async def _send_no_http(port: int, token: str) -> None:
    """Send a header with a token that is too long: the parser quotes it in its error."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}{'x' * 9000}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()


async def test_a_public_address_without_identity_stops_the_start(tmp_path):
    settings = {
        "STORE_URL": f"sqlite:///{tmp_path}/darkroom.db",
        "MEDIA_ROOT": str(tmp_path / "media"),
        "API_HOST": "0.0.0.0",
        "API_PORT": "0",
        "INFERENCE_SERVICE_URL": "http://127.0.0.1:1",
    }
    process = await forked_python("-m", "services", "up", env={**os.environ, **settings}, stdout=PIPE, stderr=STDOUT)
    async with asyncio.timeout(60):
        said, _ = await process.communicate()

    assert process.returncode == 1
    assert b"API_HOST: 0.0.0.0 is open to others" in said


async def test_allow_anonymous_permits_a_public_address_and_warns(tmp_path):
    async with (
        inference_double() as inference,
        embedded(tmp_path, INFERENCE_SERVICE_URL=inference.url, API_HOST="0.0.0.0", ALLOW_ANONYMOUS="true") as cluster,
    ):
        assert "ALLOW_ANONYMOUS: everyone who reaches 0.0.0.0 acts as the one owner" in cluster.services["up"].log
