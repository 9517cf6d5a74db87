"""Deliveries to a receiver in Node, which verifies them as docs/webhooks.md says and by the public npm library."""

import asyncio
import base64
import json
import re
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from common.runtime.clock import SystemClock
from darkroom_client import AsyncDarkroom
from services.webhooks.signing import new_secret, signed_headers
from tests.client.test_examples import NODE, ROOT, require
from tests.cluster import Service, embedded
from tests.unit.webhooks.certificates import Authority
from tests.unit.webhooks.support import OLD_SECRET, SECRET

pytestmark = pytest.mark.clients
PROMPT = "a lighthouse, 灯台"
LINE_S = 60


class NodeReceiver:
    """The running program; each request that it gets is one line of its output."""

    def __init__(self, process, port):
        self._process = process
        self.url = f"https://127.0.0.1:{port}/hook?token=7"

    async def next(self):
        async with asyncio.timeout(LINE_S):
            return json.loads(await self._process.stdout.readline())


@asynccontextmanager
async def node_receiver(module, pem, secret):
    require(NODE / "node_modules/standardwebhooks")
    command = ("node", Path(__file__).with_name("receiver.mjs"), module, pem, secret)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, limit=2**20)
    try:
        assert process.stdout
        async with asyncio.timeout(LINE_S):
            port = int(await process.stdout.readline())
        yield NodeReceiver(process, port)
    finally:
        process.terminate()
        await process.wait()


def forgeries(body, headers):
    """Requests that are not from Darkroom, or not of now, made from one that is."""
    clock = SystemClock()
    now, delivery_id, text = clock.now(), headers["webhook-id"], body.decode()
    return {
        "another body": (body.replace(b"completed", b"cancelled"), headers),
        "a space after the body": (body + b" ", headers),
        "another id": (body, {**headers, "webhook-id": f"{delivery_id}0"}),
        "a later time": (body, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
        "another secret": (body, signed_headers(delivery_id, text, keys=[new_secret()], now=now)),
        "an old one": (body, signed_headers(delivery_id, text, keys=[SECRET], now=now - timedelta(minutes=6))),
        "of the future": (body, signed_headers(delivery_id, text, keys=[SECRET], now=now + timedelta(minutes=6))),
        "no time": (body, {**headers, "webhook-timestamp": "soon"}),
        "another version": (body, {**headers, "webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")}),
        "no signature": (body, {**headers, "webhook-signature": "v1,"}),
    }


@pytest.mark.timeout(300)
async def test_a_receiver_in_node_verifies_what_is_delivered(tmp_path, monkeypatch):
    """Over https, whose certificate is of the receiver's own authority; forged requests are refused by both."""
    monkeypatch.setattr(Service, "forked", False)  # SSL_CERT_FILE is read when a process starts
    (block,) = re.findall(r"```javascript\n(.*?)```", (ROOT / "docs/webhooks.md").read_text(), re.DOTALL)
    module = tmp_path / "verified.mjs"
    module.write_text(block)
    authority = Authority(tmp_path / "tls")
    authority.server("127.0.0.1")
    settings = {
        "WEBHOOK_SECRETS": f"{SECRET},{OLD_SECRET}",
        "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
        "SSL_CERT_FILE": str(authority.file),
    }
    async with (
        node_receiver(module, authority.folder / "127.0.0.1.pem", SECRET) as receiver,
        embedded(tmp_path, **settings) as cluster,
        AsyncDarkroom(cluster.url, trust_env=False) as darkroom,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=authority.client)) as http,
    ):
        image = await darkroom.generate(PROMPT, webhook=receiver.url, width=64, height=64, steps=2)
        got = [await receiver.next(), await receiver.next()]
        for delivered, event_type in zip(got, ("image.started", "image.completed"), strict=True):
            event = delivered["document"]["event"]
            assert (event["type"], event["data"]["id"], event["data"]["prompt"]) == (event_type, image.id, PROMPT)
            assert delivered["library"]["event"] == event
        body = base64.b64decode(got[1]["body"])
        headers = {name: value for name, value in got[1]["headers"].items() if name.startswith("webhook-")}
        for what, (forged, its_headers) in forgeries(body, headers).items():
            async with http.post(receiver.url, data=forged, headers=its_headers) as response:
                assert response.status == 400, what
            refused = await receiver.next()
            assert (refused["document"].keys(), refused["library"].keys()) == ({"error"}, {"error"}), what
        async with http.post(receiver.url, data=body, headers=headers) as response:
            assert response.status == 204, "the same again is genuine: a receiver ignores it by its id"
