"""Clients in an environment that cannot work, and errors of the libraries below that show a secret."""

import ssl
import sys

import httpx2
import pytest
from websockets.exceptions import InvalidProxy

from darkroom_client import faults
from darkroom_client.async_client import AsyncDarkroom
from darkroom_client.client import Darkroom
from darkroom_client.errors import Misconfigured
from darkroom_client.listening import HANDSHAKE_S, POLL_S
from darkroom_client.transport_options import socket_options

URL = "https://darkroom.example"
BOTH = pytest.mark.parametrize("client", [Darkroom, AsyncDarkroom])
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (*PROXIES, *map(str.lower, PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@BOTH
@pytest.mark.parametrize("proxy", ["http://ada:secret@[::1", "http://ada:secret@host:port", "gopher://ada:secret@host"])
def test_a_proxy_that_is_no_url_is_named_without_its_password(environment, client, proxy):
    environment.setenv("ALL_PROXY", proxy)

    with pytest.raises(Misconfigured, match="the environment names a proxy") as caught:
        client(URL)

    assert (caught.value.code, caught.value.__cause__) == ("invalid_proxy", None)
    assert "secret" not in str(caught.value)


@BOTH
def test_a_socks_proxy_without_its_library_is_an_error_of_ours(environment, client):
    environment.setenv("ALL_PROXY", "socks5://ada:secret@host:1080")
    environment.setitem(sys.modules, "socksio", None)  # as if it were not installed

    with pytest.raises(Misconfigured, match="a SOCKS proxy") as caught:
        client(URL)

    assert "secret" not in str(caught.value)
    client(URL, trust_env=False)


@BOTH
@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_certificates_that_cannot_be_read_are_named(environment, client, content, tmp_path):
    file = tmp_path / "trusted.pem"
    if content is not None:
        file.write_bytes(content)
    environment.setenv("SSL_CERT_FILE", str(file))

    for trust_env in (True, False):  # which is about proxies
        with pytest.raises(Misconfigured, match="SSL_CERT_FILE") as caught:
            client(URL, trust_env=trust_env)
        assert caught.value.code == "invalid_certificates"


@BOTH
def test_a_client_makes_one_context_at_most(environment, client):
    made = []

    def create(*_arguments, **_options) -> ssl.SSLContext:
        made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return made[-1]

    environment.setattr(httpx2, "create_ssl_context", create)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    assert client(URL, ssl_context=own)._transport._ssl is own
    assert made == []
    context = client(URL)._transport._ssl
    assert made == [context]
    assert socket_options("wss://darkroom.example/ws", context, trust_env=True)["ssl"] is context
    assert socket_options("ws://darkroom.example/ws", context, trust_env=True)["ssl"] is None
    assert made == [context]


@BOTH
def test_both_clients_have_the_defaults_of_the_operations(client):
    core = client(URL)._core

    assert (core.handshake_s, core.poll_s) == (HANDSHAKE_S, POLL_S)


@pytest.mark.parametrize(
    "error",
    [
        httpx2.LocalProtocolError("Illegal header value b'Bearer secret '"),
        UnicodeEncodeError("ascii", "Bearer sécret", 8, 9, "ordinal not in range"),
    ],
)
def test_a_header_that_is_refused_below_is_not_shown(error):
    found = faults.of_http(URL, error, has_answered=False)

    assert isinstance(found, Misconfigured)
    assert found.code == "invalid_header"
    assert "cret" not in str(found)


@pytest.mark.parametrize("error", [ImportError("python-socks"), InvalidProxy("gopher://ada:secret@host", "no")])
def test_an_unusable_proxy_of_a_websocket_shows_no_password(error):
    found = faults.of_handshake("wss://darkroom.example/ws", error)

    assert isinstance(found, Misconfigured)
    assert found.code == "invalid_proxy"
    assert "secret" not in str(found)
