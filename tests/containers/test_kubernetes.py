"""The manifests: what the schemas of Kubernetes allow, complete, and true to what the program does."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.cli.processes import WAIT_SECONDS
from tests.docs.markdown import ROOT, name_of
from tests.docs.test_docs import parse
from verser2_guest_python.service.metrics.metric_table import GATEWAY_METRICS, GATEWAY_PREFIX, METRICS, PREFIX
from verser2_guest_python.service.settings.environment import variables
from verser2_guest_python.service.settings.model import SessionSettings, Settings, setting_keys, settings_from
from verser2_guest_python.service.settings.sources import Sources

FOLDER = ROOT / "config" / "kubernetes"
KUSTOMIZATIONS = sorted(FOLDER.rglob("kustomization.yaml"))
OVERLAYS = sorted((FOLDER / "overlays").iterdir())
SCHEMA = json.loads((Path(__file__).parent / "kubernetes.schema.json").read_text())
GROUPS: Final = {"autoscaling/v2": "autoscaling.v2", "v1": "core.v1"}

Manifest = dict[str, Any]


def manifests(file: Path) -> list[Manifest]:
    return [one for one in yaml.safe_load_all(file.read_text()) if one is not None]


def complaints(manifest: Manifest) -> list[str]:
    """What the schema of its kind says against it; unknown fields too."""
    version = manifest["apiVersion"]
    group = GROUPS.get(version) or version.replace("/", ".").replace(".k8s.io", "")
    reference = f"#/$defs/io.k8s.api.{group}.{manifest['kind']}"
    assert reference[8:] in SCHEMA["$defs"], f"there is no schema for {version} {manifest['kind']}"
    validator = Draft202012Validator({**SCHEMA, "$ref": reference})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def is_patch(file: Path) -> bool:
    return any(
        {"path": file.name} in read(one).get("patches", ())
        for one in KUSTOMIZATIONS
        if one.parent == file.parent
    )


def read(kustomization: Path) -> Manifest:
    content: Manifest = yaml.safe_load(kustomization.read_text())
    return content


RESOURCES = [
    file
    for file in sorted(FOLDER.rglob("*.yaml"))
    if file not in KUSTOMIZATIONS and file.name != "prometheus-adapter.yaml"
]
BASE = [one for file in RESOURCES if "base" in file.parts for one in manifests(file)]
WORKLOADS = [one for one in BASE if one["kind"] in {"Deployment", "StatefulSet"}]


def of_workload(manifest: Manifest, kind: str) -> Manifest:
    """What of this kind is for that workload; both have its name."""
    return next(
        one for one in BASE if one["kind"] == kind and one["metadata"]["name"] == manifest["metadata"]["name"]
    )


def name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


@pytest.mark.parametrize("file", [file for file in RESOURCES if not is_patch(file)], ids=name_of)
def test_a_manifest_is_what_kubernetes_knows(file: Path) -> None:
    for manifest in manifests(file):
        assert complaints(manifest) == []


def test_a_mistake_would_be_found() -> None:
    manifest = manifests(FOLDER / "base" / "guest" / "deployment.yaml")[0]
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["comand"] = container.pop("args")
    container["ports"] = [{"containerPort": "many"}]
    found = complaints(manifest)
    assert len(found) == 2
    assert any("comand" in one for one in found)


# --- Kustomizations -------------------------------------------------------------------------------


def resources_of(kustomization: Path) -> Iterator[Manifest]:
    """All manifests that it names, also by way of other kustomizations."""
    for resource in read(kustomization).get("resources", ()):
        path = kustomization.parent / resource
        assert path.exists(), f"{name_of(kustomization)} names {resource}"
        if path.is_dir():
            yield from resources_of(path / "kustomization.yaml")
        else:
            yield from manifests(path)


def generated_by(kustomization: Path) -> Iterator[str]:
    content = read(kustomization)
    yield from (one["name"] for one in content.get("configMapGenerator", ()))
    for resource in content.get("resources", ()):
        if (inner := kustomization.parent / resource / "kustomization.yaml").exists():
            yield from generated_by(inner)


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS, ids=name_of)
def test_what_a_kustomization_names_is_there(kustomization: Path) -> None:
    content = read(kustomization)
    assert content["apiVersion"] == "kustomize.config.k8s.io/v1beta1"
    assert content["kind"] == "Kustomization"
    assert set(content) <= {
        *("apiVersion", "kind", "namespace", "resources", "configMapGenerator", "patches", "images"),
    }
    there = {(one["kind"], name(one)) for one in resources_of(kustomization)}
    files = {file.name for file in kustomization.parent.iterdir() if file.is_file()}
    used = {kustomization.name, *content["resources"]}
    for patch in content.get("patches", ()):
        target = manifests(kustomization.parent / patch["path"])[0]
        assert (target["kind"], name(target)) in there, f"{patch['path']} changes what is not there"
        used.add(patch["path"])
    for generator in content.get("configMapGenerator", ()):
        used |= set(generator["files"])
        if generator.get("behavior") == "merge":
            inner = [kustomization.parent / one / "kustomization.yaml" for one in content["resources"]]
            assert generator["name"] in {known for one in inner for known in generated_by(one)}
    assert files <= used, "a file that nothing uses"
    images = {
        container["image"]
        for one in resources_of(kustomization)
        if "template" in one.get("spec", {})
        for container in one["spec"]["template"]["spec"]["containers"]
    }
    assert {one["name"] for one in content.get("images", ())} <= images


@pytest.mark.parametrize("overlay", OVERLAYS, ids=name_of)
def test_an_overlay_gives_what_kubernetes_knows(overlay: Path) -> None:
    """As kustomize itself puts it together, where that is installed."""
    tool = shutil.which("kustomize") or shutil.which("kubectl")
    if tool is None:
        pytest.skip("neither kustomize nor kubectl is installed: the overlays are not put together")
    command = [tool, "build" if tool.endswith("kustomize") else "kustomize", str(overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert done.returncode == 0, done.stderr
    made = [one for one in yaml.safe_load_all(done.stdout) if one is not None]
    assert [complaint for one in made for complaint in complaints(one)] == []
    guests = next(one for one in made if (one["kind"], name(one)) == ("Deployment", "hello"))
    volumes = guests["spec"]["template"]["spec"]["volumes"]
    mounted = next(volume["configMap"]["name"] for volume in volumes if "configMap" in volume)
    configuration = next(one for one in made if one["kind"] == "ConfigMap" and name(one) == mounted)
    assert (
        configuration["data"]["guest.toml"] == (overlay / "guest.toml").read_text()
        if (overlay / "guest.toml").exists()
        else (FOLDER / "base" / "guest" / "guest.toml").read_text()
    )


# --- What they do ---------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", WORKLOADS, ids=name)
def test_a_workload_runs_as_the_image_expects(workload: Manifest) -> None:
    spec = workload["spec"]["template"]["spec"]
    container = spec["containers"][0]
    parse(container["args"])
    known = {variable for key in setting_keys(Settings) for variable in variables(key)}
    assert {one["name"] for one in container.get("env", ())} <= known
    assert spec["terminationGracePeriodSeconds"] > SessionSettings().timeout_graceful_shutdown + 5
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["automountServiceAccountToken"] is False
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        command = container[probe]["exec"]["command"]
        assert command[:2] == ["verser2-guest", "health"]
        parse(command[1:])
        assert container[probe]["timeoutSeconds"] > 5, "longer than the command itself waits"
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    mounts = {one["name"]: one for one in container["volumeMounts"]}
    assert mounts["run"]["mountPath"] == "/run/verser2-guest"
    assert all("subPath" not in one for one in mounts.values()), "a subPath is never renewed"
    assert {one["name"] for one in spec["volumes"]} == set(mounts)
    secret = next(one["secret"] for one in spec["volumes"] if "secret" in one)
    assert secret["secretName"] == f"{name(workload)}-tls"
    assert secret["defaultMode"] == 0o440


@pytest.mark.parametrize("workload", WORKLOADS, ids=name)
def test_all_that_belongs_to_a_workload_selects_it(workload: Manifest) -> None:
    labels = workload["spec"]["template"]["metadata"]["labels"].items()
    for selector in (
        workload["spec"]["selector"]["matchLabels"],
        of_workload(workload, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_workload(workload, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        workload["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    if workload["kind"] == "Deployment":
        target = of_workload(workload, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
        assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name(workload)}


def test_nobody_reaches_a_guest_but_the_monitoring() -> None:
    guests = next(one for one in WORKLOADS if name(one) == "hello")
    container = guests["spec"]["template"]["spec"]["containers"][0]
    assert [port["name"] for port in container["ports"]] == ["metrics"]
    policy = of_workload(guests, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [
        {
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "ports": [{"port": container["ports"][0]["containerPort"], "protocol": "TCP"}],
        }
    ]
    assert {
        "name": "VERSER_GUEST_ID",
        "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
    } in container["env"]
    assert "lifecycle" not in container, "SIGTERM drains: there is nothing to do before it"


def test_there_are_as_many_as_their_requests_ask_for() -> None:
    deployments = [one for one in WORKLOADS if one["kind"] == "Deployment"]
    assert not any("replicas" in one["spec"] for one in deployments), "it would undo what the autoscaler does"
    scalers = [of_workload(one, "HorizontalPodAutoscaler") for one in deployments]
    named = {one["spec"]["metrics"][0]["pods"]["metric"]["name"] for one in scalers}
    known = {PREFIX + one for one in METRICS} | {GATEWAY_PREFIX + one for one in GATEWAY_METRICS}
    assert named <= known
    rules = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert {rule["seriesQuery"].partition("{")[0] for rule in rules} == named


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.toml")), ids=name_of)
def test_a_configuration_reads_its_certificates_anew(path: Path) -> None:
    settings = settings_from(Sources({"config": path}, {}, ROOT))
    assert str(settings.tls.cert_file) == "/certificates/tls.crt"
    assert settings.health.listen == "0.0.0.0:9464"
    assert settings.tls.reload_interval
    assert settings.session.timeout_graceful_shutdown == SessionSettings().timeout_graceful_shutdown
