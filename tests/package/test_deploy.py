"""The image and the manifests: what they must say, and what linters say of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy"
FOLDER = DEPLOY / "kubernetes"
RECIPE = (DEPLOY / "Dockerfile").read_text("utf-8")
PLACES = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def manifests() -> dict[str, Any]:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))["resources"]
    found = [yaml.safe_load((FOLDER / name).read_text("utf-8")) for name in listed]
    return {each["kind"]: each for each in found}


def linted(tool: str, *arguments: str) -> None:
    """Run a linter of the extra `dev`, if it is there."""
    command = shutil.which(tool, path=PLACES)
    if command is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    linted("hadolint", str(DEPLOY / "Dockerfile"))


def test_the_manifests_keep_to_the_schemas_of_kubernetes() -> None:
    names = sorted(each.name for each in FOLDER.glob("*.yaml"))
    files = [str(FOLDER / n) for n in names if n not in ("kustomization.yaml", "serve.yaml")]
    linted("kubernetes-validate", "--strict", "--quiet", *files)


def test_the_image_runs_without_rights_and_tells_its_health() -> None:
    steps = [line.split()[0] for line in RECIPE.splitlines() if line and line[0].isupper()]
    last = len(steps) - steps[::-1].index("FROM")
    assert "USER" in steps[last:] and "HEALTHCHECK" in steps[last:]
    assert "USER 10001" in RECIPE and "/health/ready" in RECIPE
    assert RECIPE.count("ENTRYPOINT") == 1 and 'ENTRYPOINT ["adaptive", "serve"]' in RECIPE
    for name in ("HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1"):
        assert name in RECIPE


def test_pods_have_no_rights_probes_of_the_server_and_time_to_drain() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"] is True and own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    paths = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in PROBES]
    assert paths == [f"/health/{name}" for name in PROBES.values()]
    settings = yaml.safe_load((FOLDER / "serve.yaml").read_text("utf-8"))
    assert pod["terminationGracePeriodSeconds"] > settings["drain_s"]
    assert container["resources"]["limits"]["memory"]


PROBES = {"startup": "startup", "readiness": "ready", "liveness": "live"}


def test_every_part_means_the_same_pods_and_nothing_goes_out() -> None:
    found = manifests()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["spec"]["selector"] == labels
    for kind, name in (
        ("Deployment", "selector"),
        ("PodDisruptionBudget", "selector"),
        ("NetworkPolicy", "podSelector"),
    ):
        assert found[kind]["spec"][name] == {"matchLabels": labels}
    policy = found["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"] and policy["egress"] == []


def test_the_settings_of_the_pods_are_settings() -> None:
    pytest.importorskip("fastapi", reason="needs the extra `serve`")
    from adaptive.serve.settings import load_settings

    settings = load_settings(FOLDER / "serve.yaml")
    assert settings.host == "0.0.0.0" and settings.keys


def test_the_pods_on_ray_serve_the_application_without_rights_or_statistics() -> None:
    folder = FOLDER / "ray"
    spec = yaml.safe_load((folder / "rayservice.yaml").read_text("utf-8"))["spec"]
    (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    assert application["import_path"] == "adaptive.serve.ray:app"
    source = (DEPLOY.parents[1] / "adaptive" / "serve" / "ray.py").read_text("utf-8")
    assert "def app(given: dict[str, str])" in source
    assert set(application["args"]) == {"bundle", "config"}
    cluster = spec["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
    linted("kubernetes-validate", "--strict", "--quiet", str(folder / "network.yaml"))


def test_the_settings_of_the_pods_on_ray_can_be_dealt_out_to_replicas() -> None:
    pytest.importorskip("fastapi", reason="needs the extra `serve`")
    from adaptive.serve.replicas import of_replicas
    from adaptive.serve.settings import load_settings

    settings = load_settings(FOLDER / "ray" / "serve.yaml")
    spec = yaml.safe_load((FOLDER / "ray" / "rayservice.yaml").read_text("utf-8"))["spec"]
    (workers,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    assert of_replicas(settings).keys[0].requests_a_minute == 1500
    assert settings.ray.max_replicas == workers["maxReplicas"]
    (container,) = workers["template"]["spec"]["containers"]
    assert float(container["resources"]["limits"]["cpu"]) == settings.ray.cpus
