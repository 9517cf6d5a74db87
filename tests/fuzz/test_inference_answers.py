"""Answers into the client of the inference service, over a real socket: only an InferenceError is raised."""

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.errors import InferenceError, Transient
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from services.generator.inference.connect import connect_inference
from tests import odd_answers
from tests.fuzz.budget import LIMIT_S, fuzzed
from tests.fuzz.json_trees import damaged, nearly
from tests.making import a_job

pytestmark = pytest.mark.timeout(LIMIT_S)

MAX_BYTES = 200_000
MAX_TEXT = 1000  # characters of a detail: it becomes part of a record, of an event and of a log line
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
SETTINGS = read_settings({"INFERENCE_TIMEOUT": "3", "MAX_IMAGE_FILE_SIZE": str(MAX_BYTES)})
PICTURE = odd_answers.drawn((64, 64))
NO_CAPABILITIES = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

Paint = Callable[[bytes], bytes | None]


class RawServer:
    """Answers each request with the bytes of `answer`, then closes the connection."""

    def __init__(self) -> None:
        self.answer = b""
        self.url = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            writer.write(NO_CAPABILITIES if head.startswith(b"get") else self.answer)
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def raw_server() -> AsyncIterator[RawServer]:
    made = RawServer()
    server = await asyncio.start_server(made, "127.0.0.1", 0)
    made.url = "http://{}:{}".format(*server.sockets[0].getsockname()[:2])
    async with server:
        yield made


@pytest.fixture
def paint():
    """A function that paints against a server with this answer; returns the picture, or None after an error."""
    with asyncio.Runner() as runner:

        @asynccontextmanager
        async def opened() -> AsyncIterator[tuple[RawServer, aiohttp.ClientSession]]:
            # the server closes each connection, whatever its answer says
            connector = aiohttp.TCPConnector(force_close=True)
            async with raw_server() as server, aiohttp.ClientSession(connector=connector) as http:
                yield server, http

        stack = opened()
        server, http = runner.run(stack.__aenter__())

        async def ask(answer: bytes) -> bytes | None:
            server.answer = answer
            backend = connect_inference(server.url, http=http, settings=SETTINGS, clock=SystemClock())
            try:
                return (await backend.generate(a_job(), lambda *_: None, lambda _: None)).content
            except InferenceError as error:
                check_error(error)
                return None

        yield lambda answer: runner.run(ask(answer))
        runner.run(stack.__aexit__(None, None, None))


def check_error(error: InferenceError) -> None:
    """What the error says can be stored, told, logged and computed with."""
    error.detail.encode()
    assert CONTROL.search(error.detail) is None, ascii(error.detail)
    assert len(error.detail) <= MAX_TEXT
    if isinstance(error, Transient) and error.retry_after_s is not None:
        assert error.retry_after_s >= 0
        assert not math.isnan(error.retry_after_s)
        SystemClock().now() + timedelta(seconds=min(error.retry_after_s, SETTINGS.generation_deadline))


def answer_of(status: int, body: bytes, *headers: tuple[str, str]) -> bytes:
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*head, "", ""]).encode(errors="surrogateescape") + body


STREAM = ("Content-Type", "text/event-stream")
statuses = st.sampled_from(
    [100, 101, 199, 200, 201, 204, 206, 301, 304, 307, 400, 401, 403, 404, 408, 418, 425, 429, 451, 499, 500, 503, 599]
)
content_types = st.sampled_from(
    [
        "image/png",
        "text/event-stream",
        "text/event-stream; charset=utf-16",
        "application/json",
        "",
        ";",
        "a",
        "\t",
        "x/y/z",
    ]
)
other_headers = st.lists(
    st.sampled_from(
        [
            ("Content-Encoding", "gzip"),
            ("Content-Encoding", "br"),
            ("Content-Encoding", "unknown"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "1"),
            ("Connection", "upgrade"),
            ("Location", "http://[::1"),
            ("Set-Cookie", "a=b; Expires=Wed, 99 Foo 2015"),
            ("X-Long", "x" * 9000),
            ("Date", "never"),
        ]
    ),
    max_size=2,
)
retries = st.sampled_from(sorted(odd_answers.RETRY_AFTERS)).map(odd_answers.RETRY_AFTERS.__getitem__)
texts = st.sampled_from([text for text in odd_answers.TEXTS.values() if len(text) < 1_000_000])
error_body = nearly(
    {"detail": "no"},
    {"error": {"message": "no", "code": 7}},
    {"message": "no"},
    {"detail": [{"loc": ["a"], "msg": "b"}]},
)
events = nearly({"step": 1, "steps": 4}, {"b64_json": "aGVsbG8=", "format": "png"}, {"code": "busy", "detail": "later"})
names = st.sampled_from(["progress", "preview", "completed", "error", "message", "", "completed\0", "é", "x" * 100])
lines = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A few events that nearly fit, with lines of one kind."""
    line = draw(lines).encode()
    found = b""
    for _ in range(draw(st.integers(0, 4))):
        found += b"event: " + draw(names).encode() + line + b"data: " + draw(events) + line + line
    return draw(damaged(found)) if found.isascii() else found


@pytest.mark.border(rule="B1")
@pytest.mark.parametrize("name", odd_answers.RETRY_AFTERS)
@pytest.mark.parametrize("status", [429, 503])
def test_each_odd_retry_after_ends_in_a_usable_error(paint, name, status):
    value = odd_answers.RETRY_AFTERS[name]

    assert paint(answer_of(status, b"busy", ("Retry-After", value))) is None


@pytest.mark.border(rule="B1")
@pytest.mark.border(rule="B5")
@pytest.mark.parametrize("name", odd_answers.TEXTS)
@pytest.mark.parametrize("status", [422, 500, 201])
def test_each_odd_text_ends_in_a_usable_error(paint, name, status):
    assert paint(answer_of(status, odd_answers.TEXTS[name])) is None


@pytest.mark.border(rule="B1")
@pytest.mark.border(rule="B5")
@pytest.mark.parametrize("name", odd_answers.BAD_STREAMS)
def test_each_odd_stream_ends_in_a_usable_error(paint, name):
    assert paint(answer_of(200, odd_answers.BAD_STREAMS[name], STREAM)) is None, "these bytes are no picture"


@pytest.mark.border(rule="B8")
@pytest.mark.parametrize("name", odd_answers.SOUND_STREAMS)
def test_each_common_form_of_a_stream_is_taken(paint, name):
    assert paint(answer_of(200, odd_answers.SOUND_STREAMS[name](PICTURE), STREAM)) == PICTURE


@pytest.mark.border(rule="B1")
@pytest.mark.border(rule="B5")
def test_an_answer_of_any_head_and_text_ends_in_a_usable_error(paint):
    @fuzzed(50, at_most=20_000)
    @given(statuses, content_types, other_headers, retries, st.one_of(texts, error_body, st.binary(max_size=50)))
    def each(status, content_type, others, retry, body):
        paint(answer_of(status, body, ("Content-Type", content_type), ("Retry-After", retry), *others))

    each()


@pytest.mark.border(rule="B1")
@pytest.mark.border(rule="B5")
def test_bytes_that_are_hardly_http_end_in_a_usable_error(paint):
    whole = answer_of(503, b"busy", ("Retry-After", "1"), ("Content-Type", "text/plain"))

    @fuzzed(40, at_most=20_000)
    @given(st.one_of(st.binary(max_size=80), damaged(whole), damaged(answer_of(200, PICTURE[:200]))))
    def each(answer):
        paint(answer)

    each()


@pytest.mark.border(rule="B1")
@pytest.mark.border(rule="B5")
def test_an_event_stream_of_any_events_ends_in_a_usable_error(paint):
    @fuzzed(50, at_most=20_000)
    @given(streams())
    def each(body):
        paint(answer_of(200, body, STREAM))

    each()
