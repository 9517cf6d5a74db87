"""`darkroom backends check` against servers that work, that are wrong, or that are away."""

import json

import pytest

from common.runtime.reading_settings import read_settings
from services.cli import main as cli
from services.cli.backends import check, check_all, print_table
from services.generator.backends.configured import configured_backends
from tests.engines.comfyui import comfyui
from tests.engines.engine import EngineFault
from tests.engines.native import Native
from tests.servers.process import free_ports


@pytest.fixture
async def fake():
    async with comfyui() as made:
        yield made


async def checked(fake, query="", **options) -> dict:
    return await check(read_settings({}), f"comfyui+{fake.url}{query}", **options)


async def test_a_server_is_described_and_paints_a_picture(fake):
    report = await checked(fake)

    assert report["problem"] is None
    assert (report["service"]["dialect"], report["service"]["version"]) == ("comfyui", "0.12.1")
    assert report["picture"]["width"] == 256
    assert (report["picture"]["progress"], report["picture"]["previews"]) == (4, 4)


async def test_the_native_server_is_described_too():
    server = Native()
    await server.start()
    try:
        report = await check(read_settings({}), server.url)
    finally:
        await server.stop()

    assert (report["service"]["dialect"], report["picture"]["sampler"], report["problem"]) == ("native", "Euler", None)


async def test_a_missing_node_is_named_with_what_to_do(fake):
    del fake.classes["PreviewImage"]

    report = await checked(fake, "?workflow=sd.json")

    assert (report["service"], report["picture"]) == (None, None)
    assert "node 9 (PreviewImage) is not installed" in report["problem"]["detail"]
    assert "INFERENCE_SERVICE_URL" in report["problem"]["advice"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (EngineFault.BUSY, "inference_failed"),
        (EngineFault.UNAUTHORIZED, "inference_unavailable"),
        (EngineFault.OVERSIZED, "bad_image"),
        (EngineFault.WRONG_SIZE, "bad_image"),
        (EngineFault.REDIRECT, "inference_refused"),
    ],
)
async def test_each_problem_has_a_code_and_advice(fake, fault, code):
    fake.fail(fault)

    report = await check(read_settings({"MAX_IMAGE_FILE_SIZE": "100000"}), f"comfyui+{fake.url}")

    assert report["problem"]["code"] == code
    assert report["problem"]["advice"]


async def test_an_unknown_model_is_refused_before_anything_is_painted(fake):
    report = await checked(fake, model="gone.safetensors")

    assert report["problem"]["detail"].startswith("model: 'gone.safetensors' is unknown")
    assert fake.graphs == {}


def test_the_command_says_what_is_wrong_and_ends_with_one(capsys):
    port = free_ports(1)[0]

    status = cli.main(["backends", "check", f"comfyui+http://user:secret@127.0.0.1:{port}"])

    out, err = capsys.readouterr()
    assert status == 1
    assert "secret" not in out + err
    assert out.splitlines() == [f"url         comfyui+http://127.0.0.1:{port}"]
    assert err.startswith("darkroom: inference_unreachable: ")
    assert "what to do: start the server" in err


def test_the_command_prints_json(capsys):
    status = cli.main(["backends", "check", "--json", f"http://127.0.0.1:{free_ports(1)[0]}"])

    report = json.loads(capsys.readouterr().out)
    assert (status, report["problem"]["code"], report["service"]) == (1, "inference_unreachable", None)


@pytest.mark.parametrize("url", ["ftp://host/", "comfyui+http://host/?workflow=none.json"])
def test_a_wrong_url_is_a_usage_error(capsys, url):
    assert cli.main(["backends", "check", url]) == 2
    assert "INFERENCE_SERVICE_URL" in capsys.readouterr().err


async def test_several_are_one_table(fake, capsys):
    """What is wrong with one of them is said with its name, and hides nothing of the others."""
    dead = f"http://user:secret@127.0.0.1:{free_ports(1)[0]}"
    settings = read_settings({"INFERENCE_SERVICE_URL": f"comfyui+{fake.url} {dead}"})
    backends = configured_backends(settings)
    print_table(await check_all(settings, backends))

    out, err = capsys.readouterr()
    head, first, second = (line.split() for line in out.splitlines())
    assert head == ["name", "dialect", "service", "models", "picture", "result"]
    assert (first[0], first[1], first[-1]) == (backends[0].name, "comfyui", "ok")
    assert (second[0], second[-1]) == (backends[1].name, "inference_unreachable")
    assert err.startswith(f"darkroom: {backends[1].name}: inference_unreachable: ")
    assert "secret" not in out + err


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_several_of_which_one_fails_end_with_one(capsys, monkeypatch, tmp_path, more):
    path = tmp_path / "backends.toml"
    ports = free_ports(2)
    entries = (f'[[backends]]\nname = "{port}"\nurl = "http://127.0.0.1:{port}"\nkey = "hunter2"\n' for port in ports)
    path.write_text("".join(entries))
    monkeypatch.setenv("BACKENDS", str(path))

    assert cli.main(["backends", "check", *more]) == 1
    out, err = capsys.readouterr()
    if more:
        assert [each["name"] for each in json.loads(out)["backends"]] == [str(port) for port in ports]
    assert "hunter2" not in out + err


def test_a_wrong_file_is_a_usage_error(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("BACKENDS", str(tmp_path / "none.toml"))

    assert cli.main(["backends", "check"]) == 2
    assert "none.toml: cannot be read" in capsys.readouterr().err
