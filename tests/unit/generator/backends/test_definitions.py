"""Back ends in the settings or in the file that BACKENDS names."""

from importlib import resources

import pytest

from common.domain.errors import Misconfigured
from common.runtime.reading_settings import read_settings
from services.generator.backends.backend import require_valid
from services.generator.backends.configured import backends_at, configured_backends

KEY = "sk-hunter2"


def found(path=None, **environ):
    return configured_backends(read_settings({"BACKENDS": str(path), **environ} if path else environ))


def test_each_url_is_a_back_end_named_by_its_host():
    urls = "http://a:8001 comfyui+http://user:hunter2@B:8188  cog+http://a:8001?model=x http://[::1]"
    backends = found(INFERENCE_SERVICE_URL=urls, GENERATOR_CONCURRENCY="3")

    assert [each.name for each in backends] == ["a:8001", "b:8188", "a:8001#2", "[::1]"]
    assert [each.url for each in backends] == urls.split()
    assert ({each.concurrency for each in backends}, {each.api_key for each in backends}) == ({3}, {None})
    assert "hunter2" not in repr(backends)
    assert found() == ()


@pytest.mark.parametrize(
    "urls", ["http://a http://b", "http://a https://a", "http://a http://a:81", "http://a.b comfyui+http://a.c"]
)
def test_a_key_for_several_origins_is_refused(urls):
    with pytest.raises(Misconfigured, match=r"INFERENCE_SERVICE_API_KEY: .*several origins") as raised:
        found(INFERENCE_SERVICE_URL=urls, INFERENCE_SERVICE_API_KEY=KEY)
    assert KEY not in raised.value.detail


@pytest.mark.parametrize("urls", ["http://a", "http://a:80/x http://A/y", "cog+http://a?model=x cog+http://a?model=y"])
def test_a_key_for_one_origin_is_taken(urls):
    assert {each.api_key for each in found(INFERENCE_SERVICE_URL=urls, INFERENCE_SERVICE_API_KEY=KEY)} == {KEY}


@pytest.mark.parametrize(
    "urls", ["http://a http://a", "http://a b", "http://a,http://b:x", " ".join(["http://a"] * 33)]
)
def test_a_wrong_list_of_urls_is_refused_by_name(urls):
    with pytest.raises(Misconfigured, match="INFERENCE_SERVICE_URL: "):
        read_settings({"INFERENCE_SERVICE_URL": urls})


def test_a_reference_server_needs_no_setting():
    (backend,) = backends_at(["http://127.0.0.1:1"], read_settings({}))
    assert (backend.name, backend.concurrency) == ("127.0.0.1:1", 2)


async def test_a_wrong_url_is_refused_before_anything_is_opened(tmp_path):
    path = tmp_path / "backends.toml"
    path.write_text('[[backends]]\nname = "left"\nurl = "cog+http://user:hunter2@host?colour=red"\n')
    settings = read_settings({"BACKENDS": str(path)})
    with pytest.raises(Misconfigured) as raised:
        await require_valid(configured_backends(settings), settings)

    assert raised.value.detail.startswith(f"BACKENDS: {path}: back end 1 ('left'): url: ")
    assert "hunter2" not in raised.value.detail


def test_the_file_describes_each_back_end(tmp_path):
    """Paths are below the folder of the file. A figure of the file overrides that of the settings."""
    (tmp_path / "right.key").write_text(f"{KEY}\n")
    shipped = resources.files("services.generator.inference.comfyui").joinpath("workflows/sd.json").read_text()
    (tmp_path / "portraits.json").write_text(shipped)
    path = tmp_path / "backends.toml"
    path.write_text(
        """
        [[backends]]
        name = "left"
        url = "comfyui+http://left:8188"
        concurrency = 5
        models = {sdxl = "sd_xl_base_1.0.safetensors", faces = "faces.safetensors"}
        workflows = {faces = ["portraits.json", "sd-hires.json"]}

        [[backends]]
        name = "right"
        url = "openai+https://right/v1"
        key_file = "right.key"
        """
    )
    left, right = found(path, GENERATOR_CONCURRENCY="3")

    assert (left.name, left.concurrency, left.api_key) == ("left", 5, None)
    assert left.models == {"sdxl": "sd_xl_base_1.0.safetensors", "faces": "faces.safetensors"}
    assert left.workflows == {"faces.safetensors": (str(tmp_path / "portraits.json"), "sd-hires.json")}
    assert (right.name, right.concurrency, right.api_key, right.models) == ("right", 3, KEY, {})
    assert KEY not in repr(right)


@pytest.mark.parametrize("name", ["INFERENCE_SERVICE_URL", "INFERENCE_SERVICE_API_KEY"])
def test_a_file_and_a_setting_beside_it_are_refused(tmp_path, name):
    with pytest.raises(Misconfigured, match=f"BACKENDS: is set, and so is {name}"):
        found(tmp_path / "none.toml", **{name: "http://host"})


ENTRY = 'name = "left"\nurl = "http://left"\n'
WRONG = {
    "": "must have 1 to 32 tables",
    "backends = []": "must have 1 to 32 tables",
    "backends = 3": "must have 1 to 32 tables",
    "[[backends]]\n" + ENTRY + "[[backend]]\n": "the unknown field 'backend'",
    "[[backends]]\nname = left": "is not TOML: .*line 2",
    "backends = " + "[" * 20_000: "nested too deeply|not TOML",
    "backends = [1]": "back end 1: entry: ",
    "[[backends]]\n" + 'url = "http://left"': "back end 1: name: is missing",
    "[[backends]]\n" + 'name = "left"': r"back end 1 \('left'\): url: is missing",
    "[[backends]]\n" + 'name = "the left"\nurl = "http://left"': r"back end 1 \('the left'\): name: ",
    "[[backends]]\n" + 'name = "left"\nurl = "left"': "url: must be a URL",
    "[[backends]]\n" + ENTRY + 'colour = "red"': "colour: is unknown; there are name, url, key, ",
    "[[backends]]\n" + ENTRY + "concurrency = 0": "concurrency: ",
    "[[backends]]\n" + ENTRY + 'concurrency = "2"': "concurrency: ",
    "[[backends]]\n" + ENTRY + "concurrency = true": "concurrency: ",
    "[[backends]]\n" + ENTRY + "models = {}": "models: ",
    "[[backends]]\n" + ENTRY + "models = {sdxl = 3}": r"models\.sdxl: ",
    "[[backends]]\n" + ENTRY + 'models = {"" = "x"}': "models",
    "[[backends]]\n" + ENTRY + 'models = ["sdxl"]': "models: ",
    "[[backends]]\n" + ENTRY + 'workflows = {sdxl = "sd.json"}': r"workflows: only back ends with a URL of comfyui\+",
    "[[backends]]\n" + ENTRY + f'key = "{KEY}"\nkey_file = "x"': "key: is set, and so is key_file",
    "[[backends]]\n" + ENTRY + 'key_file = "none.key"': "key_file: the file cannot be read",
    "[[backends]]\n" + ENTRY + f'key = "{KEY}\\u0007"': "key: must not contain control characters",
    "[[backends]]\n" + ENTRY + "[[backends]]\n" + ENTRY: r"back end 2 \('left'\): name: another back end has it",
    '[[backends]]\nname = "c"\nurl = "comfyui+http://c"\nmodels = {a = "b"}\nworkflows = {x = "sd.json"}': "'x' is not",
    '[[backends]]\nname = "c"\nurl = "comfyui+http://c"\nworkflows = {x = "none.json"}': "workflows: .*none.json",
}  # fmt: skip


@pytest.mark.border(rule="C2")
@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_is_refused_with_file_entry_and_field(tmp_path, text):
    path = tmp_path / "backends.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=WRONG[text]) as raised:
        found(path)

    assert raised.value.detail.startswith(f"BACKENDS: {path}: ")
    assert KEY not in raised.value.detail


@pytest.mark.border(rule="C2")
@pytest.mark.parametrize("content", [b"\xff\xfe", b" " * 1_000_001, None])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, content):
    path = tmp_path / "backends.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"BACKENDS: .*backends\.toml: "):
        found(path)
