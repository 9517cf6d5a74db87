"""The TCP proxy of the tests."""

import asyncio
import contextlib

import pytest

from tests.proxy import proxy_before, proxy_to

LIMIT_S = 5
SHORT_S = 0.05  # silence for so long counts as no answer


@pytest.fixture
async def echo():
    """The address of a server that echoes."""

    async def serve(reader, writer):
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1000):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()


@pytest.fixture
async def proxy(echo):
    async with proxy_to(*echo) as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def connected(proxy):
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(line, question=b"hello"):
    reader, writer = line
    writer.write(question)
    async with asyncio.timeout(LIMIT_S):
        return await reader.readexactly(len(question))


async def gets_nothing(line):
    reader, _ = line
    try:
        async with asyncio.timeout(SHORT_S):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def test_proxy_passes_and_counts(proxy):
    async with connected(proxy) as line:
        answer = await ask(line, b"x" * 300_000)

    assert answer == b"x" * 300_000
    assert (proxy.bytes_up, proxy.bytes_down) == (300_000, 300_000)


async def test_proxy_passes_the_end_of_one_direction(proxy):
    async with connected(proxy) as (reader, writer):
        writer.write(b"last words")
        writer.write_eof()

        async with asyncio.timeout(LIMIT_S):
            assert await reader.read() == b"last words"


async def test_cut_resets_only_existing_connections(proxy):
    async with connected(proxy) as old:
        await ask(old)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await ask(old)

    async with connected(proxy) as new:
        assert await ask(new) == b"hello"


async def test_silence_holds_everything_back_until_resumed(proxy):
    async with connected(proxy) as old:
        await ask(old)
        proxy.silence()
        old[1].write(b"anyone?")

        async with connected(proxy) as new:
            new[1].write(b"anyone?")
            assert await gets_nothing(old)
            assert await gets_nothing(new)
            proxy.resume()
            assert await ask(new, b"") == b""
            assert await new[0].readexactly(7) == b"anyone?"


async def test_silence_hides_a_closed_connection(echo, proxy):
    async with connected(proxy) as line:
        await ask(line)
        proxy.silence()
        line[1].write_eof()  # would make the server close

        assert await gets_nothing(line)
        assert proxy.connections == 1


async def test_half_open_silences_only_existing_connections(proxy):
    async with connected(proxy) as old:
        await ask(old)
        proxy.half_open()
        old[1].write(b"anyone?")

        async with connected(proxy) as new:
            assert await ask(new) == b"hello"
        assert await gets_nothing(old)


async def test_refuse_takes_no_connection_until_it_listens_again(proxy):
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)

    await proxy.listen()

    async with connected(proxy) as line:
        assert await ask(line) == b"hello"


async def test_delay_slows_both_directions(proxy):
    proxy.delay_s = 0.05
    async with connected(proxy) as line:
        started = asyncio.get_running_loop().time()
        await ask(line)

    assert asyncio.get_running_loop().time() - started >= 0.1


async def test_unreachable_target_resets_the_client(echo):
    async with proxy_to("127.0.0.1", 1) as proxy, connected(proxy) as (reader, _):
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(LIMIT_S):
                await reader.read(1)


async def test_proxy_before_keeps_the_rest_of_the_url(echo):
    host, port = echo

    async with proxy_before(f"amqp://guest:guest@{host}:{port}/v1?heartbeat=2") as (proxy, url):
        assert url == f"amqp://guest:guest@127.0.0.1:{proxy.port}/v1?heartbeat=2"
