"""`darkroom generate` before servers and proxies that answer in odd ways: a sentence and an exit status."""

import asyncio
import json
import socket
import ssl
import subprocess

import pytest
from aiohttp import web

from services.cli.console import json_text
from services.cli.main import main
from tests.borders.cli.odd_server import (
    DONE,
    FAILED,
    IMAGE,
    JSON,
    PAGE,
    OddServer,
    cut,
    dropped,
    generate,
    problem,
    text,
)
from tests.inference_double import picture
from tests.servers.process import free_ports

pytestmark = [pytest.mark.border(rule="D6"), pytest.mark.usefixtures("quick")]

ODD = {
    "a page instead of the image": ("order", text(PAGE), "answered 200 with text/html"),
    "a page with 401": ("order", text(PAGE, 401), "answered 401 with text/html"),
    "nothing": ("order", text("", 204), "answered 204 with nothing"),
    "a list": ("order", text([], 202, JSON), "answered 202 with application/json"),
    "a number": ("order", text(7, 202, JSON), "not with an image"),
    "an object of another form": ("order", text({"ok": True}, 200, JSON), "of another form"),
    "an image without a status": ("order", text({**IMAGE, "status": None}, 202, JSON), "of another form"),
    "an id that is a path": ("order", text({**IMAGE, "id": "../../x"}, 202, JSON), "of another form"),
    "broken JSON": ("order", text("{", 202, JSON), "not with an image"),
    "JSON that is nested without end": ("order", text("[" * 100_000, 202, JSON), "not with an image"),
    "JSON in no encoding": ("order", text(b"\xff\xfe\xfa", 202, f"{JSON}; charset=x"), "not with an image"),
    "an answer without an end": ("order", text(b"x" * 1_100_000, 200), "more than 1000000 bytes"),
    "an answer that is cut": ("order", cut, "the connection to"),
    "no answer": ("order", dropped, "the connection to"),
    "502 of a proxy": ("order", text(PAGE, 502), "answered 502 with text/html"),
    "504 of a proxy": ("order", text("", 504), "answered 504 with nothing"),
    "a problem": ("order", problem(429, "hourly_limit", "try again later"), "hourly_limit: try again later"),
    "a problem of another form": ("order", text({"error": {"message": "no"}}, 403, JSON), "answered 403 with"),
    "a redirect": ("order", text("", 301, Location="https://example.org/login"), "a redirect to https://example.org/login"),
    "a redirect to nowhere": ("order", text("", 302), "a redirect to nowhere"),
    "a page while it waits": ("image", text(PAGE), "answered 200 with text/html"),
    "502 while it waits": ("image", text(PAGE, 502), "answered 502 with text/html; the image may still be painted"),
    "504 while it waits": ("image", text("", 504), "the image may still be painted"),
    "nobody while it waits": ("image", dropped, "the image may still be painted"),
    "the image is gone": ("image", problem(404, "image_not_found", "no such image"), "image_not_found: no such image"),
    "it failed": ("image", text(FAILED, 200, JSON), "deadline: too late"),
    "it was cancelled": ("image", text({**IMAGE, "status": "cancelled"}, 200, JSON), "cancelled: there is no picture"),
    "no URL of the picture": ("image", text({**DONE, "imageUrl": None}, 200, JSON), "there is no picture"),
    "a file URL": ("image", text({**DONE, "imageUrl": "file:///etc/passwd"}, 200, JSON), "no web address"),
    "a page instead of the picture": ("picture", text(PAGE), "answered 200 with text/html, not with the picture"),
    "an empty picture": ("picture", text(b"", 200, "image/png"), "not with the picture"),
    "404 for the picture": ("picture", text("", 404), "answered 404"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
async def test_an_odd_answer_ends_with_a_sentence(server, case, capsys, tmp_path):
    route, answer, sentence = ODD[case]
    server.routes[route] = answer

    status = await generate(server.url, "-o", "picture.png")

    said = capsys.readouterr()
    assert (status, said.out) == (1, "")
    assert sentence in said.err
    assert said.err.startswith("darkroom: ")
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "a name that was reserved is free again"
    assert len(set(server.orders)) == 1, "a repeated request has the same key"


@pytest.mark.parametrize("evil", ["\x1b[2J\x1b]0;title\x07", "\r\ndarkroom: all is well", "\u202egnp.exe", "\x9b31m"])
async def test_control_characters_of_a_text_are_escaped(server, evil, capsys):
    server.routes["order"] = problem(422, f"code{evil}", f"detail {evil}")

    assert await generate(server.url) == 1

    said = capsys.readouterr().err
    assert said.endswith("\n")
    assert said.removesuffix("\n").isprintable()


def test_json_for_people_holds_no_control_characters():
    value = {"reason": "\x1b[2J \x9b31m \u202e", "prompt": "ein Leuchtturm, 灯台", "lines": [1, "a\nb"]}

    shown = json_text(value)

    assert json.loads(shown) == value
    assert "灯台" in shown
    assert shown.replace("\n", "").isprintable()


async def test_a_long_text_is_cut(server, capsys):
    server.routes["order"] = problem(422, "too_long", "x" * 100_000)

    assert await generate(server.url) == 1
    assert len(capsys.readouterr().err) < 2100


async def no_close(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(5)  # no handshake
    return web.Response()


def frames(*texts: str | bytes):
    """A websocket that sends these and closes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        for frame in texts:
            await (websocket.send_bytes(frame) if isinstance(frame, bytes) else websocket.send_str(frame))
        await websocket.close()
        return websocket

    return answer


def event(kind: str, data: object) -> str:
    return json.dumps({"type": kind, "subject": IMAGE["id"], "data": data})


SOCKETS = {
    "is not there": text("", 404),
    "is a page": text(PAGE),
    "is forbidden": text("", 403),
    "is a redirect": text("", 302, Location="/login"),
    "never answers": no_close,
    "is dropped": dropped,
    "closes at once": frames(),
    "sends no JSON": frames("hello", "[", "[]", "null", b"\x00\x01"),
    "sends events of another form": frames(
        event("image.progress", {"step": 1, "steps": 0}), event("image.progress", None), event("image.running", [])
    ),
    "sends a picture's steps twice over": frames(event("image.progress", {"step": 90, "steps": 20})),
}


@pytest.mark.parametrize("case", SOCKETS)
async def test_without_a_websocket_the_record_is_read(server, case, capsys, tmp_path):
    server.routes["ws"] = SOCKETS[case]

    assert await generate(server.url, "-o", "picture.png") == 0
    assert capsys.readouterr().out == "picture.png\n"
    assert (tmp_path / "picture.png").read_bytes() == picture()


@pytest.mark.parametrize("route", ["order", "image", "picture"])
async def test_a_fault_that_passes_is_survived(server, route, capsys):
    """A proxy answers 502 while the api behind it restarts."""
    sound = server.routes[route]
    faults = [text(PAGE, 502), dropped]
    server.routes[route] = lambda request: faults.pop()(request) if faults else sound(request)

    assert await generate(server.url) == 0
    assert capsys.readouterr().out == f"{IMAGE['id']}.png\n"
    assert len(set(server.orders)) == 1


@pytest.mark.parametrize(
    "image_url",
    ["/draw/media/picture.png", "/media/picture.png", "media/picture.png", "{url}/draw/media/picture.png"],
)
async def test_below_a_path_the_picture_is_found(server, image_url, capsys):
    """With PUBLIC_URL the server names the whole path, without it that which it sees."""
    named = image_url.format(url=server.url)
    server.routes["image"] = text({**DONE, "imageUrl": named}, 200, JSON)
    sound = server.routes["picture"]
    server.routes["picture"] = lambda request: (
        sound(request) if request.path.startswith("/draw/") else web.Response(status=404)
    )

    assert await generate(f"{server.url}/draw/") == 0


async def test_ipv6_addresses_are_taken(capsys):
    async with OddServer().running("::1") as server:
        assert await generate(server.url) == 0


@pytest.mark.parametrize("host", ["::1", "::"])
async def test_the_default_url_takes_an_ipv6_host(host, monkeypatch):
    async with OddServer().running("::1") as server:
        monkeypatch.setenv("API_HOST", host)
        monkeypatch.setenv("API_PORT", server.url.rpartition(":")[2])

        assert await asyncio.to_thread(main, ["generate", "a lighthouse"]) == 0


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://host/", "http://", "http://[::1", "http://h:99999", "https://h/?a=b", "//h", ""]
)
def test_a_wrong_url_is_refused_before_anything_is_sent(url, capsys):
    if url:
        assert main(["generate", "a lighthouse", "--url", url]) == 2
        assert "--url must be http://host:port" in capsys.readouterr().err


def test_a_password_in_the_url_is_not_repeated(capsys):
    assert main(["generate", "a lighthouse", "--url", "https://ada:secret@host/"]) == 2
    assert "secret" not in capsys.readouterr().err


@pytest.mark.parametrize("token", ["two\nlines", "naïve", "\x00", "two words", " padded", "padded "])
def test_a_token_that_no_header_can_hold_is_refused(token, capsys):
    assert main(["generate", "a lighthouse", "--url", "http://localhost:1", "--token", token]) == 2
    assert token not in capsys.readouterr().err


async def test_an_unwritable_file_is_found_before_the_request(server, capsys, tmp_path):
    (tmp_path / "file").touch()

    for name in (".", "none/picture.png", "file/picture.png", "x" * 300):
        assert await generate(server.url, "-o", name) == 1
        assert "cannot write" in capsys.readouterr().err
    assert server.orders == []


async def test_a_file_that_was_there_is_kept_when_the_request_fails(server, tmp_path):
    (tmp_path / "picture.png").write_text("an older picture")
    server.routes["order"] = problem(429, "hourly_limit", "no")

    assert await generate(server.url, "-o", "picture.png") == 1
    assert (tmp_path / "picture.png").read_text() == "an older picture"


async def test_a_picture_can_be_written_to_a_device(server):
    assert await generate(server.url, "-o", "/dev/null") == 0


async def test_no_server_and_no_tls_are_told_apart(server, capsys, tmp_path):
    (port,) = free_ports(1)
    assert await generate(f"http://127.0.0.1:{port}") == 1
    assert "no server answers" in capsys.readouterr().err

    assert await generate(server.url.replace("http:", "https:")) == 1
    assert "there is no TLS at" in capsys.readouterr().err

    assert await generate("http://no-such-host.invalid:8000") == 1
    assert "no server answers" in capsys.readouterr().err

    async with OddServer().running(tls=self_signed(tmp_path)) as secure:
        assert await generate(secure.url) == 1
        assert "is not accepted" in capsys.readouterr().err
        assert secure.orders == []


async def test_an_operator_is_told_what_is_wrong_with_tls(server, capsys, tmp_path):
    """A certificate that signs itself, and a port that speaks plain HTTP: no server has to be started."""

    async def letters(url: str) -> str:
        assert await asyncio.to_thread(main, ["dead-letters", "list", "--url", url]) == 1
        return capsys.readouterr().err

    async with OddServer().running(tls=self_signed(tmp_path)) as secure:
        assert await letters(secure.url) == (
            f"darkroom: the certificate of {secure.url} is not accepted (self-signed certificate); "
            "SSL_CERT_FILE names a file of trusted certificates\n"
        )
    url = server.url.replace("http:", "https:")
    assert (await letters(url)).startswith(f"darkroom: there is no TLS at {url} (")


async def test_unreadable_certificates_do_not_blame_the_url(server, capsys, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/trusted.pem")

    assert await generate(server.url) == 1

    said = capsys.readouterr().err
    assert "SSL_CERT_FILE" in said
    assert "--url" not in said


async def test_a_server_of_another_protocol_ends_with_a_sentence(capsys):
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()
        await writer.wait_closed()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(greet, sock=listener)
        async with server:
            assert await generate(f"http://127.0.0.1:{listener.getsockname()[1]}") == 1
    assert "darkroom: the connection to" in capsys.readouterr().err


def self_signed(folder) -> ssl.SSLContext:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
