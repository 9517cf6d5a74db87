"""The forms in which an inference service may answer."""

import asyncio
import base64
import json
import textwrap
import threading
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web

from common.domain.errors import BadImage
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from services.generator.inference import encoded_pictures, event_stream
from services.generator.inference.base64_text import decode_base64
from services.generator.inference.connect import connect_inference
from tests.inference_double import inference_double, picture
from tests.making import a_job

pytestmark = pytest.mark.border(rule="B8")

CONTENT = bytes(range(256)) * 700  # 179 kB: more than one piece
FORMS = {
    "plain": lambda plain: plain,
    "wrapped": lambda plain: "\n".join(textwrap.wrap(plain, 76)),
    "wrapped with CRLF": lambda plain: "\r\n".join(textwrap.wrap(plain, 64)) + "\r\n",
    "URL-safe": lambda plain: plain.replace("+", "-").replace("/", "_"),
    "unpadded": lambda plain: plain.rstrip("="),
    "URL-safe, unpadded": lambda plain: plain.replace("+", "-").replace("/", "_").rstrip("="),
    "data URL": lambda plain: f"data:image/png;base64,{plain}",
    "data URL with parameters": lambda plain: f"DATA:image/png;name=a.png;Base64,{plain}",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [1, 2, 3, 49_151, 49_152, 49_153, 49_154, len(CONTENT)])
def test_common_forms_of_base64_are_decoded(form, length):
    content = CONTENT[:length]

    assert decode_base64(FORMS[form](base64.b64encode(content).decode())) == content


@pytest.mark.parametrize(
    "text",
    [
        "caf\u00e9",
        "ab*d",
        "abcde",
        "ab==cdef",
        "=abc",
        "abc===",
        "data:image/png,abcd",
        "ab=c" * 30_000,
        "A" * 65_536 + "*",
    ],
    ids=lambda text: text[:12],
)
def test_other_texts_are_no_base64(text):
    with pytest.raises(ValueError):  # noqa: PT011 - binascii and str raise different kinds
        decode_base64(text)


def a_stream(*pieces: bytes):
    """An answer whose stream is written in these pieces."""

    async def answer(request, _order):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)  # each piece by itself, as far as the sockets allow
        return response

    return answer


def result() -> str:
    return json.dumps({"b64_json": base64.b64encode(picture()).decode()})


def lines(end: str, start: str = "") -> bytes:
    """A stream with comments, an id, and data over several lines."""
    progress = ["event: progress", "data: {", 'data: "step": 1, "steps": 4}', ""]
    completed = [": idle", "id: 7", "event: completed", f"data: {result()}", "", ""]
    return end.join([f"{start}: idle", "", *progress, *completed]).encode()


def halves(stream: bytes) -> tuple[bytes, ...]:
    """One byte at a time: every line end and every mark is split."""
    return tuple(stream[at : at + 1] for at in range(len(stream)))


STREAMS = {
    "LF": (lines("\n"),),
    "CRLF": (lines("\r\n"),),
    "CR": (lines("\r"),),
    "byte order mark": (lines("\n", "\ufeff"),),
    "CRLF and a byte order mark, byte by byte": halves(lines("\r\n", "\ufeff")),
    "CR, byte by byte": halves(lines("\r")),
    "base64 over several lines of data": (
        b'event: completed\ndata: {"b64_json": "'
        + "\ndata: ".join(textwrap.wrap(base64.b64encode(picture()).decode(), 60)).encode()
        + b'"}\n\n',
    ),
    "odd progress before": (b"event: progress\ndata: {broken\n\nevent: progress\n\n" + lines("\n"),),
}


@pytest.fixture
async def bench():
    settings = read_settings({"INFERENCE_TIMEOUT": "5", "MAX_IMAGE_FILE_SIZE": "100000"})
    async with inference_double() as server, aiohttp.ClientSession() as http:
        server.capabilities = {"models": []}
        backend = connect_inference(server.url, http=http, settings=settings, clock=SystemClock())
        yield SimpleNamespace(server=server, backend=backend)


@pytest.mark.parametrize("form", STREAMS)
async def test_common_forms_of_event_streams_are_read(bench, form):
    bench.server.will(a_stream(*STREAMS[form]))
    steps: list[tuple[int, int]] = []

    content = (await bench.backend.generate(a_job(), lambda *step: steps.append(step))).content

    assert content == picture()
    assert [step for step in steps if step != (0, 0)] in ([(1, 4)], [])


@pytest.mark.parametrize("value", [None, 7, [], "", {"url": "http://x"}], ids=repr)
async def test_a_result_without_base64_is_a_bad_image(bench, value):
    bench.server.will(a_stream(b"event: completed\ndata: " + json.dumps({"b64_json": value}).encode() + b"\n\n"))

    with pytest.raises(BadImage):
        await bench.backend.generate(a_job(), lambda *_: None)


async def test_a_large_result_is_decoded_outside_of_the_loop(bench, monkeypatch):
    threads = set()

    def recorded(function):
        def call(*arguments):
            threads.add(threading.get_ident())
            return function(*arguments)

        return call

    monkeypatch.setattr(event_stream, "parse_event", recorded(event_stream.parse_event))
    monkeypatch.setattr(encoded_pictures, "decode_base64", recorded(decode_base64))
    large = base64.b64encode(bytes(90_000)).decode()
    bench.server.will(a_stream(f'event: completed\ndata: {{"b64_json": "{large}"}}\n\n'.encode()))

    assert (await bench.backend.generate(a_job(), lambda *_: None)).content == bytes(90_000)
    assert threads
    assert threading.get_ident() not in threads
