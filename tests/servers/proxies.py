"""nginx and Caddy, with the configurations of docs/proxies.md."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.servers.process import Process

PAGE = Path(__file__).parents[2] / "docs/proxies.md"
PACKAGES = {"nginx": "nginx-light", "caddy": "caddy"}  # of Debian and Ubuntu
READY_S = 30.0
Name = Literal["nginx", "caddy"]
# kept: the api sees the path below which the proxy serves it; root: there is no such path
Place = Literal["stripped", "kept", "root"]

_NGINX = """
daemon off;
{user}
error_log stderr;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{site}
}}
"""
_CADDY = """
{{
    admin off
    auto_https disable_redirects
}}
{site}
"""


def find(name: str) -> str | None:
    """The path of the program. Debian puts nginx into a folder that is not on the PATH of every user."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Certificate:
    """A certificate for `localhost` that signs itself."""

    path: Path
    key: Path

    @classmethod
    def made(cls, folder: Path) -> "Certificate":
        made = cls(folder / "localhost.pem", folder / "localhost.key")
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", str(made.key), "-out", str(made.path)]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
        subprocess.run(command, check=True, capture_output=True)
        return made


@contextmanager
def proxy(
    name: Name, place: Place, folder: Path, *, port: int, api_port: int, certificate: Certificate
) -> Iterator[None]:
    """Run the proxy as the page describes it."""
    program = find(name)
    assert program
    config = folder / f"{name}.conf"
    site = _site(name, place, port=port, api_port=api_port, certificate=certificate)
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text((_NGINX if name == "nginx" else _CADDY).format(site=site, folder=folder, user=user))
    command = {
        "nginx": [program, "-c", str(config), "-p", str(folder), "-e", "stderr"],
        "caddy": [program, "run", "--adapter", "caddyfile", "--config", str(config)],
    }[name]
    log = folder / f"{name}.log"
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    process = Process(command, folder=folder, env=env, log=log)
    try:
        _wait(process, port, log)
        yield
    finally:
        process.stop()


def _site(name: Name, place: Place, *, port: int, api_port: int, certificate: Certificate) -> str:
    """The block of the page with the addresses of the test."""
    (block,) = re.findall(rf"```{name}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    if place == "kept":
        block = _changed(block, ":8000/;", ":8000;") if name == "nginx" else _changed(block, "handle_path", "handle")
    elif place == "root" and name == "nginx":
        block = _changed(re.sub(r".*location = /draw .*\n", "", block), "location /draw/", "location /")
    elif place == "root":
        block = _changed(re.sub(r".*redir .*\n", "", block), "handle_path /draw/*", "handle")
    block = block.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    block = block.replace("/etc/ssl/draw.example.org.pem", str(certificate.path))
    block = block.replace("/etc/ssl/draw.example.org.key", str(certificate.key))
    block = block.replace("draw.example.org {", f"localhost:{port} {{").replace("draw.example.org", "localhost")
    return _changed(block, "127.0.0.1:8000", f"127.0.0.1:{api_port}")


def _changed(text: str, old: str, new: str) -> str:
    assert old in text, f"docs/proxies.md has no {old!r}"
    return text.replace(old, new)


def _wait(process: Process, port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.is_running, f"the proxy ended:\n{log.read_text()[-3000:]}"
        assert time.monotonic() < deadline, f"the proxy is not ready:\n{log.read_text()[-3000:]}"
        time.sleep(0.05)
