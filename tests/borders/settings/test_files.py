"""Settings that are read from files."""

import asyncio
import json
import os
from pathlib import Path
from subprocess import PIPE

import pytest

from common.domain.errors import Misconfigured
from common.runtime.reading_settings import SECRETS, read_settings
from tests.borders.as_nobody import as_nobody
from tests.servers.fork_server import forked_python

SECRET = "a-secret-of-a-test-of-more-than-32-characters"
READS_SECRET = "common.runtime.reading_settings.read_settings({'JWT_SECRET_FILE': sys.argv[1]})"
READS_ENV_FILE = "common.runtime.reading_settings.read_settings({}, common.runtime.reading_settings.Path(sys.argv[1]))"
VALUES = {
    "bus_url": "amqp://user:password@host/",
    "store_url": "mongodb://user:password@host/db",
    "webhook_secrets": "whsec_" + "c2VjcmV0" * 6,
}


@pytest.mark.border(rule="C2")
@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_is_read_from_the_file_that_is_named(name, tmp_path):
    value = VALUES.get(name, SECRET)
    file = tmp_path / "secret"
    file.write_text(f"{value}\n")

    found = getattr(read_settings({f"{name.upper()}_FILE": str(file)}), name)

    assert found == ((value,) if name in {"media_signing_keys", "webhook_secrets"} else value)


@pytest.mark.border(rule="C2")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xff" * 40, "is not UTF-8"),
        (b"x" * 70_000, "larger than"),
        (f"{SECRET}\n{SECRET}\n".encode(), "control characters"),
        (b"short", "at least 32 characters"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused_by_name(content, reason, tmp_path):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(Misconfigured, match=r"^JWT_SECRET(_FILE)?: .*" + reason):
        read_settings({"JWT_SECRET_FILE": str(file)})


@pytest.mark.border(rule="C2")
def test_a_folder_and_a_file_without_rights_are_refused_by_name(open_folder):
    secret = open_folder / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    for path in (open_folder, secret):
        result = as_nobody(READS_SECRET, path)
        assert "JWT_SECRET_FILE: the file cannot be read" in result


@pytest.mark.border(rule="C2")
def test_a_secret_that_is_set_twice_is_refused(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / ".env").write_text(f"JWT_SECRET={SECRET}\n")

    with pytest.raises(Misconfigured, match="JWT_SECRET: is set, and so is JWT_SECRET_FILE"):
        read_settings({"JWT_SECRET_FILE": str(tmp_path / "secret")}, tmp_path / ".env")


def a_folder(path: Path) -> None:
    path.mkdir()


def not_utf8(path: Path) -> None:
    path.write_bytes(b"API_PORT=\xff\n")


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_broken_line(path: Path) -> None:
    path.write_text("API_PORT=8000\n=5\n'LEASE\n")


@pytest.mark.border(rule="C2")
@pytest.mark.parametrize("make", [a_folder, not_utf8, a_dangling_link, a_loop, a_pipe, a_broken_line])
def test_an_env_file_that_cannot_be_read_is_refused(make, tmp_path):
    make(tmp_path / ".env")

    with pytest.raises(Misconfigured, match=r"\.env: cannot be read"):
        read_settings({}, tmp_path / ".env")


@pytest.mark.border(rule="C2")
def test_an_env_file_of_another_user_is_refused(open_folder):
    (open_folder / ".env").write_text("API_PORT=1234\n")
    (open_folder / ".env").chmod(0o600)

    result = as_nobody(READS_ENV_FILE, open_folder / ".env")

    assert ".env: cannot be read: Permission denied" in result


def test_an_env_file_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfAPI_PORT=1234\r\nLEASE='7'\r\n")

    settings = read_settings({}, tmp_path / ".env")

    assert (settings.api_port, settings.lease) == (1234, 7)


@pytest.mark.border(rule="C2")
@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"LEASE": "soon"}, "bad_setting: LEASE: must be a number"),
        ({"JWT_SECRET_FILE": "/nowhere"}, "bad_setting: JWT_SECRET_FILE: the file cannot be read"),
        ({"MEDIA_ROOT": "/proc/media"}, "bad_setting: MEDIA_ROOT: /proc/media cannot be written"),
        ({"API_HOST": "192.0.2.1"}, "192.0.2.1:0 cannot be used"),
    ],
)
async def test_a_bad_setting_is_logged_in_the_chosen_format(env, reason, tmp_path):
    base = {"STORE_URL": f"sqlite:///{tmp_path}/d.db", "MEDIA_ROOT": str(tmp_path / "media"), "API_PORT": "0"}
    base |= {"ALLOW_ANONYMOUS": "true", "INFERENCE_PORT": "0"}
    for log_format in ("json", "text"):
        environment = {**os.environ, **base, "LOG_FORMAT": log_format, **env}
        process = await forked_python("-m", "services", "up", env=environment, cwd=tmp_path, stderr=PIPE)
        _, written = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode in {1, 2}
        last = written.decode().strip().splitlines()[-1]
        if log_format == "json":
            line = json.loads(last)
            assert (line["level"], line["service"]) == ("error", "up")
            assert reason in line["event"]
        else:
            assert last.startswith("darkroom: ")
            assert reason.removeprefix("bad_setting: ") in last
