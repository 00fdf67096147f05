"""What the Kubernetes manifests promise beyond their schemas, which `make kubernetes-test` checks."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import yaml

from metaalign_server.cli import main
from metaalign_server.settings import Settings
from tests.processes import ROOT

FOLDER = ROOT / "docker/kubernetes"
RELIABILITY = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
STOP_SECONDS = 5  # what docs/reliability.md promises after the drain


@cache
def manifests() -> dict[str, dict[str, Any]]:
    """The base's documents by kind."""
    names = yaml.safe_load((FOLDER / "base/kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    found = [yaml.safe_load((FOLDER / "base" / name).read_text(encoding="utf-8")) for name in names]
    return {document["kind"]: document for document in found}


def pods() -> list[dict[str, Any]]:
    return [manifests()[kind]["spec"]["template"]["spec"] for kind in ("Deployment", "Job")]


def test_a_pod_is_given_the_time_that_a_stop_takes() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(manifests()["ConfigMap"]["data"]["METAALIGN_DRAIN_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > pause + drain + STOP_SECONDS


def test_settings_exist_and_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    given = manifests()["ConfigMap"]["data"]
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    for name, value in given.items():
        assert str(getattr(settings, name.removeprefix("METAALIGN_").lower())).startswith(value), name


def test_what_containers_run_is_a_command_of_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    for pod in pods():
        with pytest.raises(SystemExit) as ended:
            main([pod["containers"][0]["args"][0], "--help"])
        assert ended.value.code == 0
        assert capsys.readouterr().out


def test_pods_have_no_rights_that_they_do_not_need() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        # Else the Service gives every pod a variable METAALIGN_PORT that is a URL.
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}


def test_all_selectors_meet_the_servers_pods() -> None:
    labels = manifests()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        manifests()["Deployment"]["spec"]["selector"]["matchLabels"],
        manifests()["Service"]["spec"]["selector"],
        manifests()["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests()["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert "replicas" not in manifests()["Deployment"]["spec"]  # they are the autoscaler's


def test_the_autoscaler_reads_metrics_that_we_have_and_the_adapter_offers() -> None:
    scaler = manifests()["HorizontalPodAutoscaler"]["spec"]
    read = {metric["pods"]["metric"]["name"] for metric in scaler["metrics"]}
    adapter = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    assert read == {rule["seriesQuery"].partition("{")[0] for rule in adapter["rules"]["custom"]}
    assert all(f"| `{name}` | gauge |" in RELIABILITY for name in read)
