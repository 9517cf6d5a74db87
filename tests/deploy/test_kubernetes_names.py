"""Names, ports, paths and limits in deploy/kubernetes are those of the code and of the other files of a deployment."""

import re
import tomllib

import pytest
import yaml

from common.bus.rabbitmq.topology import pool_queue
from common.runtime.reading_settings import read_settings
from common.runtime.settings import Settings
from services.api.app import OPERATIONS
from services.cli.services import SERVICES
from services.generator.backends.configured import configured_backends
from tests.deploy.manifests import OURS, OVERLAYS, ROOT, Manifests, container, overlay, probed_ports, seconds

SECRETS = {
    "BUS_PASSWORD": "p@ss",
    "STORE_URL": "mongodb://mongodb:27017/darkroom",
    "MEDIA_SIGNING_KEYS": "k" * 32,
    "JWT_SECRET": "j" * 32,
    "WEBHOOK_SECRETS": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "INFERENCE_SERVICE_API_KEY": "key",
    "FLUX_SERVICE_API_KEY": "key",
}
HELPERS = {"POD_IP", "HOST_NAMES"}  # variables of the manifests only
CLOSING_S = 10  # to close connections after GRACE_PERIOD
PAGE = (ROOT / "docs/kubernetes.md").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(params=OVERLAYS)
def manifests(request) -> Manifests:
    return overlay(request.param)


def settings_of(manifests: Manifests, spec: dict) -> Settings:
    environment = manifests.environment(spec, SECRETS)
    return read_settings({name: value for name, value in environment.items() if name not in HELPERS})


def service_of(spec: dict) -> str:
    program, service = container(spec)["args"]
    assert program == "darkroom"
    return service


def pods_of(manifests: Manifests) -> dict[str, dict]:
    """The pods with the image of Darkroom."""
    images = {name: container(template["spec"])["image"] for name, template in manifests.pods()}
    return {
        name: template["spec"] for name, template in manifests.pods() if "darkroom" in images[name].partition(":")[0]
    }


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def test_each_variable_is_a_setting_with_a_valid_value(manifests):
    known = {name.upper() for name in Settings.model_fields} | HELPERS
    for spec in pods_of(manifests).values():
        assert manifests.environment(spec, SECRETS).keys() - known == set()
        settings_of(manifests, spec)


def test_traces_are_configured_by_a_config_map_of_their_own(manifests):
    """It is optional, so each pod of Darkroom takes it; docs/telemetry.md shows how it is made."""
    for spec in pods_of(manifests).values():
        optional = [
            each["configMapRef"]["name"] for each in container(spec)["envFrom"] if "optional" in each["configMapRef"]
        ]
        assert optional == ["darkroom-telemetry"]
    assert "darkroom-telemetry" not in manifests.of("ConfigMap")
    assert "create configmap darkroom-telemetry" in (ROOT / "docs/telemetry.md").read_text()


def test_each_service_runs_once_or_for_each_pool(manifests):
    services = sorted(service_of(spec) for spec in manifests.services().values())

    pools = [service for service in services if service == "generator"]
    assert services == sorted(["api", "janitor", "webhooks", *pools])
    assert set(services) <= {*SERVICES, "webhooks"}


def test_ports_and_probes_are_those_of_the_services(manifests):
    paths = {operation.path for operation in OPERATIONS if operation.method == "GET"}
    for name, template in manifests.pods():
        spec = template["spec"]
        if name not in manifests.services():
            continue
        settings = settings_of(manifests, spec)
        port = settings.api_port if service_of(spec) == "api" else settings.health_port
        assert probed_ports(spec) == {"http": port}
        assert template["metadata"]["annotations"]["prometheus.io/port"] == str(port)
        probes = {kind: container(spec)[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {probe["port"] for probe in probes.values()} == {"http"}
        assert {kind: probe["path"] for kind, probe in probes.items()} == {
            "startup": "/healthz",
            "liveness": "/healthz",
            "readiness": "/readyz",
        }
        assert {"/healthz", "/readyz", template["metadata"]["annotations"]["prometheus.io/path"]} <= paths
        host = settings.api_host if service_of(spec) == "api" else settings.health_host
        assert host == "0.0.0.0"  # the kubelet must reach it


def test_a_pod_may_stop_as_long_as_its_service_does(manifests):
    for spec in pods_of(manifests).values():
        grace_s = seconds(manifests.environment(spec, SECRETS)["GRACE_PERIOD"])
        pause_s = container(spec).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert grace_s + pause_s + CLOSING_S <= spec["terminationGracePeriodSeconds"] <= grace_s + CLOSING_S + 5
        assert grace_s == seconds(COMPOSE["x-environment"]["GRACE_PERIOD"])


def test_no_pod_has_rights_that_it_does_not_need(manifests):
    uid = int(re.findall(r"useradd --system --uid (\d+)", (ROOT / "Dockerfile").read_text())[0])
    for name, template in manifests.pods():
        spec = template["spec"]
        pod, own = spec["securityContext"], container(spec)["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container(spec)["resources"]["requests"].keys() == {"cpu", "memory"}
        if name in pods_of(manifests):
            assert (own["readOnlyRootFilesystem"], pod["runAsUser"]) == (True, uid)


def test_the_media_folder_is_the_only_one_that_is_written(manifests):
    for spec in manifests.services().values():
        settings = settings_of(manifests, spec)
        mounts = {mount["name"]: mount["mountPath"] for mount in container(spec)["volumeMounts"]}
        assert mounts == {"media": settings.media_root}
        assert settings.media_root in (ROOT / "Dockerfile").read_text()
        assert not settings.store_url.startswith("sqlite:")
        (volume,) = spec["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] in manifests.of("PersistentVolumeClaim")


def test_each_selector_finds_its_pods(manifests):
    labels = {name: template["metadata"]["labels"] for name, template in manifests.pods()}
    for kind in ("Deployment", "StatefulSet"):
        for name, resource in manifests.of(kind).items():
            found = {each for each in labels if selects(resource["spec"]["selector"]["matchLabels"], labels[each])}
            assert found == {name}
    for name, service in manifests.of("Service").items():
        (found,) = [each for each in labels if selects(service["spec"]["selector"], labels[each])]
        spec = dict(manifests.pods())[found]["spec"]
        assert {port["port"] for port in service["spec"]["ports"]} == set(probed_ports(spec).values()), name
    for name, policy in manifests.of("NetworkPolicy").items():
        assert any(selects(policy["spec"]["podSelector"]["matchLabels"], each) for each in labels.values()), name


def test_each_service_has_a_disruption_budget(manifests):
    labels = {name: template["metadata"]["labels"] for name, template in manifests.pods()}
    budgets = [each["spec"] for each in manifests.of("PodDisruptionBudget").values()]

    for name in manifests.services():
        found = [each for each in budgets if selects(each["selector"]["matchLabels"], labels[name])]
        assert [each["maxUnavailable"] for each in found] == [1], name  # a drain never waits for a single replica


def test_generators_reach_their_inference_services(manifests):
    """Only generators know them, and the NetworkPolicy opens their ports for the generators of this pool alone."""
    labels = {name: template["metadata"]["labels"] for name, template in manifests.pods()}
    for name, spec in manifests.services().items():
        settings = settings_of(manifests, spec)
        if service_of(spec) != "generator":
            continue
        backends = configured_backends(settings)
        opened = {
            port["port"]
            for policy in manifests.of("NetworkPolicy").values()
            if selects(policy["spec"]["podSelector"]["matchLabels"], labels[name])
            for rule in policy["spec"].get("egress", ())
            for port in rule["ports"]
        }
        assert backends
        assert {int(url.rpartition(":")[2].strip("/")) for url in settings.inference_service_url} <= opened
        assert {53, 5672, 27017} <= opened


def test_no_secret_is_in_the_manifests(manifests):
    assert manifests.of("Secret") == {}
    for spec in pods_of(manifests).values():
        for variable in container(spec).get("env", ()):
            assert (
                variable["name"] in HELPERS
                or "secretKeyRef" in variable.get("valueFrom", {})
                or not is_secret(variable["name"])
            )
    for config in manifests.of("ConfigMap").values():
        assert [key for key in config["data"] if is_secret(key) and key != "BUS_URL"] == []


def is_secret(name: str) -> bool:
    field = Settings.model_fields.get(name.lower())
    return field is not None and not field.repr


def test_each_secret_is_described(manifests):
    for spec in pods_of(manifests).values():
        for variable in container(spec).get("env", ()):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert f"| `{reference['key']}` |" in PAGE
                assert reference["name"] == OURS
                assert f"create secret generic {reference['name']} " in PAGE
    for authentication in manifests.of("TriggerAuthentication").values():
        for target in authentication["spec"]["secretTargetRef"]:
            assert f"create secret generic {target['name']} " in PAGE
            assert f"--from-literal={target['key']}=" in PAGE


def test_each_pool_is_scaled_by_its_own_queue():
    """A generator that has all the work it takes counts as one, so a busy pool stays as it is."""
    manifests = overlay("production")
    scaled = {each["spec"]["scaleTargetRef"]["name"]: each["spec"] for each in manifests.of("ScaledObject").values()}
    generators = {name: spec for name, spec in manifests.services().items() if service_of(spec) == "generator"}

    assert scaled.keys() == generators.keys()
    assert len(scaled) == 2
    for name, spec in generators.items():
        settings = settings_of(manifests, spec)
        (trigger,) = scaled[name]["triggers"]
        assert trigger["metadata"]["queueName"] == settings.bus_prefix + pool_queue(settings.generator_pool).name
        assert int(trigger["metadata"]["value"]) == settings.generator_concurrency
        assert trigger["authenticationRef"]["name"] in manifests.of("TriggerAuthentication")
        assert "replicas" not in manifests.of("Deployment")[name]["spec"]  # it would undo the scaling at each apply


def test_production_has_three_apis_and_mandatory_identity():
    manifests = overlay("production")
    settings = settings_of(manifests, manifests.services()["darkroom-api"])

    assert manifests.of("Deployment")["darkroom-api"]["spec"]["replicas"] == 3
    assert (settings.allow_anonymous, settings.api_keys) == (False, True)
    assert manifests.of("PersistentVolumeClaim")["darkroom-media"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_image_has_the_version_of_the_project():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {container(spec)["image"] for spec in pods_of(overlay("production")).values()}

    assert images == {f"images.example.org/darkroom:{version}"}


def test_servers_of_one_node_are_those_of_docker_compose():
    manifests = overlay("single-node")
    pods = dict(manifests.pods())
    (config,) = [each for name, each in manifests.of("ConfigMap").items() if name.startswith("rabbitmq-")]

    assert config["data"]["20-darkroom.conf"] == COMPOSE["configs"]["rabbitmq"]["content"]
    for name in ("rabbitmq", "mongodb"):
        assert container(pods[name]["spec"])["image"] == COMPOSE["services"][name]["image"]
