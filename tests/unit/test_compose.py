"""The compose files: valid by the specification, with services that scale, stop and report health."""

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
OBSERVABILITY = "docker-compose.observability.yml"
OBJECTS = "docker-compose.objects.yml"
# the library reads these, docs/telemetry.md
OF_OPENTELEMETRY = {
    *("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
}
OURS = {"api", "generator", "janitor", "webhooks", "inference"}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture
def services(compose):
    return compose["services"]


def seconds(duration):
    return int(duration.removesuffix("s"))


@pytest.fixture(scope="module")
def observability():
    return yaml.safe_load((ROOT / OBSERVABILITY).read_text())


@pytest.mark.parametrize("name", ["docker-compose.yml", OBSERVABILITY, OBJECTS])
def test_compose_file_follows_the_specification(name):
    schema = json.loads(SCHEMA.read_text())

    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load((ROOT / name).read_text()))


def compose_client():
    """The command of a Compose client that works here, or None."""
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            subprocess.run([*command, "version"], check=True, capture_output=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            continue
        return command
    return None


@pytest.mark.parametrize(
    ("names", "more"),
    [
        (["docker-compose.yml"], set()),
        (["docker-compose.yml", OBSERVABILITY], {"prometheus", "grafana", "jaeger"}),
        (["docker-compose.yml", OBJECTS], {"minio"}),
    ],
    ids=["services", "observability", "objects"],
)
def test_compose_client_reads_the_file(names, more):
    command = compose_client()
    if command is None:
        pytest.skip("no Compose client here; the schema was checked")

    read = subprocess.run(
        [*command, *(f"--file={ROOT / name}" for name in names), "config", "--format", "json"],
        check=True,
        capture_output=True,
        timeout=30,
    )

    assert json.loads(read.stdout)["services"].keys() == OURS | more | {"rabbitmq", "mongodb"}


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
    known = {name.upper() for name in Settings.model_fields} | OF_OPENTELEMETRY

    assert {name: sorted(services[name]["environment"].keys() - known) for name in OURS} == {name: [] for name in OURS}


def test_traces_are_off_unless_a_collector_is_named(services):
    """A variable without a value is passed on if it is set: an empty one is no sampler."""
    for name in OURS | {"generator-flux"}:
        environment = services[name]["environment"]
        assert {key for key in environment if environment[key] is None} == OF_OPENTELEMETRY
        endpoint = environment["OTEL_EXPORTER_OTLP_ENDPOINT"]
        for variables, wanted in (({}, None), ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "collector")):
            found = read_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": substituted(endpoint, variables)})
            assert URL(found.otel_exporter_otlp_endpoint or "").host == wanted
    assert "\nopentelemetry-sdk==" in (ROOT / "requirements/image.txt").read_text()


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


def test_observability_is_published_to_this_machine_only(observability):
    ports = {name: service["ports"] for name, service in observability["services"].items() if "ports" in service}

    assert ports.keys() == {"prometheus", "grafana", "jaeger"}
    for (port,) in ports.values():
        assert re.fullmatch(r"\$\{[A-Z]+_PUBLISH:-127\.0\.0\.1:(\d+)\}:\1", port)


def test_prometheus_scrapes_each_service_at_its_port(observability, services):
    """All containers of a service with a health port by their addresses; the api by a name that it answers to."""
    config = yaml.safe_load(observability["configs"]["prometheus"]["content"])
    by_address, api = config["scrape_configs"]
    (found,) = by_address["dns_sd_configs"]

    assert set(found["names"]) == {name for name in services if "HEALTH_PORT" in services[name].get("environment", {})}
    assert {services[name]["environment"]["HEALTH_PORT"] for name in found["names"]} == {found["port"]}
    [[target]] = [each["targets"] for each in api["static_configs"]]
    assert target == f"api:{services['api']['environment']['API_PORT']}"
    assert "api" in substituted(services["api"]["environment"]["ALLOWED_HOSTS"], {}).split(",")


def test_rules_and_dashboard_are_those_of_deploy(observability):
    prometheus, grafana = observability["services"]["prometheus"], observability["services"]["grafana"]
    config = yaml.safe_load(observability["configs"]["prometheus"]["content"])
    provider = yaml.safe_load(observability["configs"]["dashboards"]["content"])["providers"][0]
    sources = yaml.safe_load(observability["configs"]["datasources"]["content"])["datasources"]

    rules, rules_at, _ = prometheus["volumes"][0].split(":")
    assert config["rule_files"] == [rules_at]
    assert (ROOT / rules).name == "alerts.yml"
    assert (ROOT / rules).is_file()
    boards, boards_at, _ = grafana["volumes"][0].split(":")
    assert provider["options"]["path"] == boards_at
    assert [file.name for file in (ROOT / boards).iterdir()] == ["darkroom.json"]
    hosts = {URL(source["url"]).host for source in sources}
    assert hosts <= observability["services"].keys()
    mounted = {
        each["source"] for name in ("prometheus", "grafana") for each in observability["services"][name]["configs"]
    }
    assert mounted == observability["configs"].keys()


def test_services_send_their_traces_to_jaeger(observability, services):
    traced = {name for name, each in observability["services"].items() if "environment" in each} - {"grafana"}

    assert traced == {"inference", *(name for name in services if "BUS_URL" in services[name].get("environment", {}))}
    for name in traced:
        (value,) = observability["services"][name]["environment"].values()
        assert substituted(value, {}) == "http://jaeger:4318"


def test_all_services_keep_their_media_in_the_same_bucket(services):
    objects = yaml.safe_load((ROOT / OBJECTS).read_text())["services"]
    keeping = {name for name, service in services.items() if "MEDIA_ROOT" in service.get("environment", {})}
    read = {
        name: read_settings(
            {key: str(value) for key, value in objects[name]["environment"].items() if key != "MEDIA_PUBLIC_ENDPOINT"}
        )
        for name in keeping
    }

    assert {(each.media_root, each.aws_endpoint_url, each.aws_access_key_id) for each in read.values()} == {
        ("s3://darkroom/media", "http://minio:9000", objects["minio"]["environment"]["MINIO_ROOT_USER"])
    }
