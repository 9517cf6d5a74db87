"""docker-compose.yml: valid by the specification, with services that scale, stop and report health."""

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from yarl import URL

from common.bus.credentials import with_password
from common.runtime.reading_settings import read_settings
from common.runtime.settings import Settings

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "tests/schemas/compose-spec.json"  # from the Compose Specification, see the licence beside it
OURS = {"api", "generator", "janitor", "webhooks", "inference"}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture
def services(compose):
    return compose["services"]


def seconds(duration):
    return int(duration.removesuffix("s"))


def test_compose_file_follows_the_specification(compose):
    schema = json.loads(SCHEMA.read_text())

    jsonschema.Draft202012Validator(schema).validate(compose)


def compose_client():
    """The command of a Compose client that works here, or None."""
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            subprocess.run([*command, "version"], check=True, capture_output=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            continue
        return command
    return None


def test_compose_client_reads_the_file():
    command = compose_client()
    if command is None:
        pytest.skip("no Compose client here; the schema was checked")

    read = subprocess.run(
        [*command, "--file", str(ROOT / "docker-compose.yml"), "config", "--format", "json"],
        check=True,
        capture_output=True,
        timeout=30,
    )

    assert json.loads(read.stdout)["services"].keys() == OURS | {"rabbitmq", "mongodb"}


def test_each_service_runs_its_own_command_of_one_image(services):
    assert {name: services[name]["command"] for name in OURS} == {name: ["darkroom", name] for name in OURS}
    assert {(services[name]["build"], services[name]["image"]) for name in OURS} == {(".", "darkroom:latest")}


def test_generator_can_be_scaled(services):
    for name in ("generator", "janitor", "webhooks", "inference"):
        assert not {"container_name", "ports", "hostname"}.intersection(services[name])


def test_api_is_published_to_this_machine_only(services):
    assert services["api"]["ports"] == ["${API_PUBLISH:-127.0.0.1:8000}:8000"]
    assert [name for name in services if "ports" in services[name]] == ["api"]


def test_only_generators_know_the_inference_service(services):
    knowing = {name for name in OURS if "INFERENCE_SERVICE_URL" in services[name]["environment"]}

    assert knowing == {"generator"}


def test_the_api_answers_to_names_of_this_machine_by_default(services):
    assert "ALLOWED_HOSTS" in services["inference"]["environment"]
    names = substituted(services["api"]["environment"]["ALLOWED_HOSTS"], {}).split(",")
    assert {"localhost", "127.0.0.1", "[::1]"} <= set(names)
    assert not {"*", "0.0.0.0", ""} & set(names)


def test_the_user_of_the_services_is_no_administrator(compose):
    """On a real broker with these rights: tests/contract/bus/test_password.py."""
    (mounted,) = compose["services"]["rabbitmq"]["configs"]
    lines = dict(line.split(" = ") for line in compose["configs"][mounted["source"]]["content"].splitlines())

    assert lines.pop("default_user_tags.administrator") == "false"
    assert lines.keys() == {f"default_permissions.{right}" for right in ("configure", "write", "read")}
    assert ".*" not in lines.values()


@pytest.mark.parametrize("password", ["p@ss/w:rd#1%", "%41", "$HOME ${x} $$", "ä 灯", "'", '"', "\\", "a b", "+&?=;[]"])
def test_a_password_with_any_characters_reaches_all_services(services, password):
    variables = {"RABBITMQ_PASSWORD": password}
    for name in ("api", "generator", "janitor", "webhooks"):
        environment = {key: substituted(value, variables) for key, value in services[name]["environment"].items()}
        settings = read_settings({key: environment[key] for key in ("BUS_URL", "BUS_PASSWORD")})
        url = URL(with_password(settings.bus_url, settings.bus_password))
        assert (url.user, url.password, url.host, url.path) == ("darkroom", password, "rabbitmq", "/")
    assert substituted(services["rabbitmq"]["environment"]["RABBITMQ_DEFAULT_PASS"], variables) == password


def substituted(value: object, variables: dict[str, str]) -> str:
    """What Compose makes of a value: `${NAME:-default}` only, which is all that the file uses."""
    found = re.sub(r"\$\{([A-Z_]+):-([^}]*)\}", lambda match: variables.get(match[1]) or match[2], str(value))
    assert "$" not in re.sub(r"\$\{[A-Z_]+:-[^}]*\}", "", str(value))
    return found


def test_every_service_has_a_healthcheck(services):
    assert [name for name in services if "test" not in services[name]["healthcheck"]] == []
    for name in OURS:
        for needed, how in services[name].get("depends_on", {}).items():
            assert (name, needed, how) == (name, needed, {"condition": "service_healthy"})
            assert needed in services


def test_healthchecks_ask_the_port_of_the_service(services):
    for name, setting in {
        "api": "API_PORT",
        "inference": "INFERENCE_PORT",
        "generator": "HEALTH_PORT",
        "janitor": "HEALTH_PORT",
        "webhooks": "HEALTH_PORT",
    }.items():
        port = services[name]["environment"][setting]
        assert f"http://127.0.0.1:{port}/healthz" in services[name]["healthcheck"]["test"][-1]


def test_containers_wait_longer_than_the_services_do(services):
    for name in OURS - {"inference"}:
        grace_period = services[name]["environment"]["GRACE_PERIOD"]
        assert seconds(services[name]["stop_grace_period"]) > seconds(grace_period)


def test_images_queues_and_records_outlive_their_containers(compose):
    mounts = {name: service.get("volumes", []) for name, service in compose["services"].items()}

    assert {name: volumes[0].split(":")[0] for name, volumes in mounts.items() if volumes} == {
        "rabbitmq": "rabbitmq",
        "mongodb": "mongodb",
        "api": "media",
        "generator": "media",
        "generator-flux": "media",
        "janitor": "media",
        "webhooks": "media",
    }
    assert compose["volumes"].keys() == {"rabbitmq", "mongodb", "media"}


def test_environment_names_settings_that_exist(services):
    known = {name.upper() for name in Settings.model_fields}

    assert {name: sorted(services[name]["environment"].keys() - known) for name in OURS} == {name: [] for name in OURS}


def test_a_second_pool_has_the_generator_of_the_first(services):
    """Only its pool and its inference service differ, and nobody starts it without its profile."""
    first, second = services["generator"], services["generator-flux"]
    own = {"GENERATOR_POOL": "flux", "INFERENCE_SERVICE_URL": "", "INFERENCE_SERVICE_API_KEY": ""}

    assert second["profiles"] == ["flux"]
    assert {**second["environment"], **own} == {**first["environment"], **own}
    assert second["environment"]["GENERATOR_POOL"] == "flux"
    same = first.keys() - {"environment", "depends_on"}
    assert {key: second[key] for key in same} == {key: first[key] for key in same}
    assert second["depends_on"].items() <= first["depends_on"].items()
