"""deploy/kubernetes by the published schemas of Kubernetes and KEDA."""

import copy
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import KUBERNETES, OVERLAYS, ROOT, TOOLS, Manifests, kustomize, overlay

VALIDATE = ROOT / ".venv-deploy/bin/kubernetes-validate"
VERSIONS = ["1.34", "1.37"]
# https://keda.sh/docs/latest/scalers/rabbitmq-queue/: the published schemas accept any key here
SCALER_KEYS = {
    *("activationValue", "excludeUnacknowledged", "host", "hostFromEnv", "mode", "operation", "pageSize"),
    *("passwordFromEnv", "protocol", "queueName", "timeout", "unsafeSsl", "useRegex", "usernameFromEnv"),
    *("value", "vhostName"),
}


def is_of_keda(resource: dict) -> bool:
    return resource["apiVersion"].startswith("keda.sh/")


def by_kubernetes(resources: list[dict], version: str, folder: Path) -> str:
    """What is wrong by the schemas of Kubernetes, which know every key."""
    file = folder / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(resources))
    command = [str(VALIDATE), "--strict", "--kubernetes-version", version, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def by_keda(resources: list[dict]) -> str:
    done = subprocess.run(
        ["node", str(TOOLS / "keda.mjs")],
        input=json.dumps(resources),
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_each_resource_is_valid_for_kubernetes(name, version, tmp_path):
    resources = [each for each in overlay(name).resources if not is_of_keda(each)]

    assert len(resources) > 10
    assert by_kubernetes(resources, version, tmp_path) == ""


def test_what_kubernetes_would_refuse_is_found(tmp_path):
    unknown, missing = copy.deepcopy(list(overlay("production").of("Deployment").values())[:2])
    unknown["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    del missing["spec"]["selector"]

    assert "readinesProbe" in by_kubernetes([unknown], VERSIONS[-1], tmp_path)
    assert "selector" in by_kubernetes([missing], VERSIONS[-1], tmp_path)


def test_each_resource_of_keda_is_valid():
    resources = [each for each in overlay("production").resources if is_of_keda(each)]

    assert {each["kind"] for each in resources} == {"ScaledObject", "TriggerAuthentication"}
    assert by_keda(resources) == ""


def test_what_keda_would_refuse_is_found():
    (broken, *_) = copy.deepcopy(list(overlay("production").of("ScaledObject").values()))
    del broken["spec"]["scaleTargetRef"]

    assert "scaleTargetRef" in by_keda([broken])


def test_the_scaler_counts_images_in_progress():
    """KEDA's defaults would count waiting messages only, by AMQP, and stop generators that are busy."""
    for scaled in overlay("production").of("ScaledObject").values():
        (trigger,) = scaled["spec"]["triggers"]
        metadata = trigger["metadata"]
        assert trigger["type"] == "rabbitmq"
        assert metadata.keys() <= SCALER_KEYS
        assert all(isinstance(value, str) for value in metadata.values())
        chosen = {key: metadata[key] for key in ("protocol", "mode", "excludeUnacknowledged")}
        assert chosen == {"protocol": "http", "mode": "QueueLength", "excludeUnacknowledged": "false"}
        # a pool without a generator has its orders on record, and its queue stays empty
        assert 1 <= scaled["spec"]["minReplicaCount"] < scaled["spec"]["maxReplicaCount"]


@pytest.mark.parametrize("folder", ["base", "pool"])
def test_each_part_can_be_rendered_alone(folder):
    assert Manifests([*yaml.safe_load_all(kustomize(KUBERNETES / folder))]).services()
