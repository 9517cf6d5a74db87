"""The served OpenAPI document is true of the server that serves it, in each configuration."""

import itertools
import json
import re

import jsonschema
import pytest

from common.application.capabilities import parse_capabilities
from common.store.sqlite import SqliteStore
from tests.announcing import FakeGenerator
from tests.borders.http.conftest import CLOCK, ORDERS
from tests.cluster import ORDER
from tests.security import callers

pytestmark = pytest.mark.border(rule="D8")
UNKNOWN = "01900000-0000-7000-8000-000000000000"
PATH = {"PUBLIC_URL": "https://host.example/draw/", "ALLOWED_HOSTS": "127.0.0.1"}
SHARING = {"SHARE_LINKS": "true"}  # without it those routes answer 404 to everyone
KEYS = {"API_KEYS": "true", "MEDIA_SIGNING_KEYS": callers.SIGNING} | SHARING
SETTINGS = {
    "no identity": {},
    "everyone": {"API_HOST": "0.0.0.0", "ALLOW_ANONYMOUS": "true"},
    "a shared secret": callers.settings_of() | SHARING,
    "API keys": KEYS,
    "a secret and API keys": callers.settings_of() | KEYS,
    "below a path": PATH,
    "below a path, with keys": PATH | KEYS,
}


@pytest.mark.parametrize("case", SETTINGS)
async def test_a_credential_is_required_where_the_document_says_so(serve, case):
    """Each operation once without a credential, and with a body or a path that are of no use."""
    async with serve(**SETTINGS[case]) as api:
        _, _, document = await api.ask("GET", "/openapi.json")
        wrong = []
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                url = re.sub("{[^}]*}", UNKNOWN, path)
                status, headers, _ = await api.ask(method.upper(), url)
                described = operation["responses"].get(str(status), {})
                if (status == 401) is not bool(operation.get("security")) or not described:
                    wrong.append((method, path, status))
                if status == 401:
                    wrong += [(method, path, name) for name in described["headers"] if name not in headers]

    assert wrong == []
    has_identity = "securitySchemes" in document["components"]
    assert has_identity is any("security" in each for path in document["paths"].values() for each in path.values())
    assert document.get("servers") == ([{"url": "https://host.example/draw"}] if "path" in case else None)


CAPABILITIES: dict[str, dict | None] = {
    "unknown": None,
    "no models": {"models": []},
    "samplers only": {"samplers": ["LCM", "Euler"]},
    "other samplers only": {"samplers": ["LCM"]},
    "the default model": {"models": [{"id": "sdxl"}]},
    "another model": {"models": [{"id": "plain", "samplers": ["LCM"]}]},
    "two of different samplers": {
        "models": [{"id": "sdxl", "samplers": ["Euler"]}, {"id": "plain", "samplers": ["LCM"]}]
    },
    "one with samplers of the service": {
        "models": [{"id": "sdxl"}, {"id": "plain", "samplers": ["DDIM"]}],
        "samplers": ["LCM"],
    },
    "one with any sampler": {"models": [{"id": "sdxl", "samplers": ["LCM"]}, {"id": "plain"}]},
    "names of odd characters": {"models": [{"id": "a/b c"}, {"id": "line\nbreak"}, {"id": "灯"}]},
    "the same twice": {"models": [{"id": "sdxl", "samplers": ["Euler"]}, {"id": "sdxl", "samplers": ["LCM"]}]},
}
MODELS = [None, "sdxl", "plain", "a/b c", "line\nbreak", "灯", "other"]
SAMPLERS = [None, "Euler", "LCM", "DDIM", "other"]


@pytest.mark.long_unless("unknown", "the default model", "names of odd", "two of different")
@pytest.mark.parametrize("case", CAPABILITIES)
async def test_models_and_samplers_are_accepted_as_described(serve, tmp_path, case):
    """Each pair of a model and a sampler: the schema allows it if the server accepts it."""
    if (announced := CAPABILITIES[case]) is not None:
        found = parse_capabilities(json.dumps(announced).encode())
        async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
            await FakeGenerator(store, CLOCK).offer(*found.models, samplers=found.samplers)
    prefer = {"Prefer": "respond-async"}
    async with serve() as api:
        _, _, document = await api.ask("GET", "/openapi.json")
        validator = jsonschema.Draft202012Validator({"$ref": "#/components/schemas/GenerationRequest", **document})
        wrong = []
        for model, sampler in itertools.product(MODELS, SAMPLERS):
            named = {name: value for name, value in (("model", model), ("sampler", sampler)) if value is not None}
            status, _, _ = await api.ask("POST", ORDERS, json={**ORDER, **named}, headers=prefer)
            if validator.is_valid({**ORDER, **named}) is not (status == 202) or status not in {202, 400}:
                wrong.append((named, status))

    assert wrong == []
