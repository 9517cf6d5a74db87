"""Frames to `/ws` and cursors of any text: no 500, no traceback in the log, known closes only."""

import asyncio
import os
import re
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster import embedded
from tests.fuzz.budget import LIMIT_S, fuzzed
from tests.inference_double import inference_double

pytestmark = pytest.mark.timeout(LIMIT_S)

# RFC 6455, section 7.4.1: normal, going away, protocol error, bad data, policy, too big; and 1006 where it was cut.
KNOWN_CLOSES = {None, 1000, 1001, 1002, 1003, 1006, 1007, 1008, 1009}
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
LARGEST_ANSWER = 1 << 20

payloads = st.one_of(st.binary(max_size=200), st.sampled_from([b"x" * 5000, b"\xff", b"\0", b'{"type": "hello"}']))
opcodes = st.sampled_from([0x0, 0x1, 0x2, 0x3, 0x7, 0x8, 0x9, 0xA, 0xF])
close_payloads = st.builds(
    lambda code, reason: code.to_bytes(2, "big") + reason,
    st.sampled_from([0, 999, 1000, 1004, 1005, 1006, 1015, 2999, 4000, 65535]),
    st.sampled_from([b"", b"bye", b"\xff\xfe", b"x" * 123]),
)


def frame(opcode: int, payload: bytes, *, head: int = 0x80, masked: bool = True, length: int | None = None) -> bytes:
    """One frame; `length` is the announced length if it is not that of the payload."""
    announced = len(payload) if length is None else length
    mask_bit = 0x80 if masked else 0
    if announced < 126:
        size = bytes([mask_bit | announced])
    elif announced < 65536:
        size = bytes([mask_bit | 126]) + announced.to_bytes(2, "big")
    else:
        size = bytes([mask_bit | 127]) + announced.to_bytes(8, "big")
    mask = os.urandom(4) if masked else b""
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if masked else payload
    return bytes([head | opcode]) + size + mask + body


frames = st.builds(
    frame,
    opcodes,
    payloads | close_payloads,
    head=st.sampled_from([0x80, 0x80, 0x80, 0x00, 0xC0, 0xF0, 0x40]),
    masked=st.sampled_from([True, True, True, False]),
    length=st.sampled_from([None, None, None, 0, 125, 126, 65535, 2**31, 2**63 - 1, 2**64 - 1]),
)


@pytest.fixture
def server(tmp_path):
    """Runs a coroutine function with a running `darkroom up`, whose log must hold no traceback at the end."""
    with asyncio.Runner() as runner:

        class Opened:
            async def open(self) -> None:
                self.inference = inference_double()
                self.cluster = embedded(tmp_path, INFERENCE_SERVICE_URL=(await self.inference.__aenter__()).url)
                self.up = await self.cluster.__aenter__()
                self.http = aiohttp.ClientSession()

            async def close(self) -> None:
                await self.http.close()
                await self.cluster.__aexit__(None, None, None)
                await self.inference.__aexit__(None, None, None)

        opened = Opened()
        runner.run(opened.open())
        yield lambda act: runner.run(act(opened.up, opened.http))
        runner.run(opened.close())
    log = (tmp_path / "up.log").read_text()
    assert "Traceback" not in log, log[-4000:]
    assert "the event stream of a websocket failed" not in log, log[-4000:]


async def close_after(up, sent: bytes, *, query: str = "") -> int | None:
    """The code with which the server closes after these bytes; None if it only ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", up.api_port)
    try:
        head = (
            f"GET /ws{query} HTTP/1.1\r\nHost: 127.0.0.1:{up.api_port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        )
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert re.match(rb"HTTP/1.1 (101|4\d\d) ", answer), answer
        if not answer.startswith(b"HTTP/1.1 101"):
            return None
        writer.write(sent + frame(0x8, b"\x03\xe8"))  # and a normal close, which ends what the server still accepts
        writer.write_eof()
        received = await reader.read(LARGEST_ANSWER)
        while piece := await reader.read(LARGEST_ANSWER):
            received += piece
    except ConnectionError:
        return None
    finally:
        writer.close()
    return _close_code(received)


def _close_code(received: bytes) -> int | None:
    """The code of the close frame among the frames of the server."""
    at = 0
    while at + 2 <= len(received):
        opcode, size = received[at] & 0xF, received[at + 1]
        at += 2
        if size == 126:
            size, at = int.from_bytes(received[at : at + 2], "big"), at + 2
        elif size == 127:
            size, at = int.from_bytes(received[at : at + 8], "big"), at + 8
        if opcode == 0x8:
            return int.from_bytes(received[at : at + 2], "big") if size >= 2 else None
        at += size
    return None


@pytest.mark.border(rule="D5")
def test_frames_of_any_kind_end_in_a_known_close(server):
    @fuzzed(80, at_most=20_000)
    @given(st.lists(frames, min_size=1, max_size=4))
    def each(sent):
        code = server(lambda up, _: close_after(up, b"".join(sent)))
        assert code in KNOWN_CLOSES, code

    each()


cursor_parts = st.sampled_from(
    ["", ".", "0", "-1", "9" * 30, "٣", "²", "\0", "\r\n", "é", "a" * 2000, "1.2.3", "%00", "+", "1e9", "0x1",
     "9999999999999", "0000000000000", "00000000-0000-0000-0000-000000000000"]
)  # fmt: skip
cursors = st.lists(cursor_parts | st.text(max_size=10), max_size=3).map(".".join)


@pytest.mark.border(rule="D5")
def test_a_cursor_of_any_text_gets_a_hello_a_gap_or_a_problem(server):
    async def opened(up, text: str) -> int | None:
        return await close_after(up, b"", query=f"?after={quote(text, errors='replace')}")

    async def listed(up, http, text: str) -> int:
        async with http.get(f"{up.url}/api/images/history/", params={"cursor": text}) as response:
            return response.status

    @fuzzed(60, at_most=20_000)
    @given(cursors.filter(lambda text: text.isascii() or "\ud800" not in text))
    def each(text):
        assert server(lambda up, _: opened(up, text)) in KNOWN_CLOSES
        assert server(lambda up, http: listed(up, http, text)) in {200, 400}

    each()


@pytest.mark.border(rule="D5")
def test_an_own_cursor_with_another_position_gets_a_gap(server):
    """The part of the cursor that only the server can know is right, so the rest is read."""

    async def first_frame(up, http, position: str) -> str:
        async with http.ws_connect(f"{up.url}/ws") as socket:
            cursor = (await socket.receive_json(timeout=10))["cursor"]
        changed = f"{cursor.rpartition('.')[0]}.{position}"
        async with http.ws_connect(f"{up.url}/ws", params={"after": changed}) as socket:
            return (await socket.receive_json(timeout=10))["type"]

    for position in ("9" * 30, "9" * 5000, "-1", "٣", ""):
        assert server(lambda up, http, position=position: first_frame(up, http, position)) == "gap"
