"""Monitoring: rules, dashboards and runbook name each other and metrics that exist.

What needs Prometheus itself is in `tests/observability.py` (`make observability-test`).
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dashboards import DASHBOARDS, dashboard_files
from tests.processes import ROOT

PROMETHEUS = ROOT / "docker/prometheus"
METRIC = re.compile(r"(?<![\w:])(?:metaalign_\w+|vllm:\w+)")
RECORDED = re.compile(r"(?<![\w:])[a-z_]+:(?:metaalign|vllm)_\w+:\w+")


@cache
def rules(file: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((PROMETHEUS / "rules" / file).read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}
RECORDS = {rule["record"]: rule["expr"] for rule in rules("recording.yml")}
PANELS = [
    (f"{dashboard.title}: {panel.title}", expr)
    for dashboard in DASHBOARDS
    for panel in dashboard.panels
    for expr in panel.queries.values()
]
EXPRESSIONS = [*RECORDS.values(), *(rule["expr"] for rule in ALERTS.values()), *(expr for _, expr in PANELS)]


def test_names_are_unique() -> None:
    assert len(ALERTS) == len(rules("alerts.yml"))
    assert len(RECORDS) == len(rules("recording.yml"))


def test_each_alert_has_an_entry_in_the_runbook_and_no_other_has_one() -> None:
    page = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    title, *entries = re.split(r"^## ", page, flags=re.MULTILINE)
    assert title.startswith("# Runbook")
    found = dict(entry.split("\n", 1) for entry in entries)
    found.pop("Objectives")
    assert list(found) == list(ALERTS)
    for name, text in found.items():
        assert re.findall(r"^\*\*([\w ]+)\.\*\* \S", text, re.MULTILINE) == ["Meaning", "Look at", "Do"], name


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_is_about(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert all(notes.values())
    assert notes["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_each_alert_is_seen_silent_firing_and_silent_again() -> None:
    """By a unit test of promtool's, which `make observability-test` runs."""
    seen: dict[str, list[bool]] = {}
    for file in (PROMETHEUS / "tests").glob("*.yml"):
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            for asked in test["promql_expr_test"]:
                name = re.findall(r'ALERTS\{alertname="(\w+)", alertstate="firing"\}', asked["expr"])
                assert name == [test["name"]]
                seen.setdefault(name[0], []).append(bool(asked["exp_samples"]))
    assert seen == {name: [False, True, False] for name in ALERTS}


def test_every_recorded_name_is_used_and_every_used_one_recorded() -> None:
    used = {name for expr in EXPRESSIONS for name in RECORDED.findall(expr)}
    assert used == set(RECORDS)


def test_every_metric_that_is_used_is_exposed(http: httpx.Client) -> None:
    exposed: set[str] = set()
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    for family in text_string_to_metric_families(http.get("/metrics").raise_for_status().text):
        exposed |= {family.name + suffix for suffix in suffixes.get(family.type, [])}
    used = {name for expr in EXPRESSIONS for name in METRIC.findall(RECORDED.sub("", expr))}
    assert len(used) > 40
    assert used - exposed == set()


def test_the_committed_dashboards_are_those_of_the_code() -> None:
    folder = ROOT / "docker/grafana/dashboards"
    committed = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}
    assert committed == dashboard_files(), "run `make generated`"


def test_panels_do_not_overlap() -> None:
    """Each cell of the grid belongs to one panel at most, and no two panels of a dashboard share a title."""
    for text in dashboard_files().values():
        panels = yaml.safe_load(text)["panels"]
        taken = [
            (x, y)
            for position in (panel["gridPos"] for panel in panels)
            for x in range(position["x"], position["x"] + position["w"])
            for y in range(position["y"], position["y"] + position["h"])
        ]
        assert len(taken) == len(set(taken))
        assert max(x for x, _ in taken) < 24
        titles = [panel["title"] for panel in panels if panel["type"] != "row"]
        assert len(titles) == len(set(titles))


def test_names_of_dashboards_match_those_in_the_runbook() -> None:
    page = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    rows = {row for dashboard in DASHBOARDS for row in dashboard.rows}
    names = {dashboard.title for dashboard in DASHBOARDS}
    named = set(re.findall(r"(?<!\*)\*([A-Z][a-z]+(?: [a-z]+)*)\*(?!\*)", page))
    assert named
    assert named <= rows | names


def test_the_deployment_mounts_each_file_where_others_look_for_it() -> None:
    services = yaml.safe_load((ROOT / "docker/compose.yaml").read_text(encoding="utf-8"))["services"]

    def mounted(service: str) -> dict[str, str]:
        pairs = (volume.split(":")[:2] for volume in services[service]["volumes"])
        return {inside: outside for outside, inside in pairs}

    provider = ROOT / "docker/grafana/provisioning/dashboards/dashboards.yaml"
    folder = yaml.safe_load(provider.read_text(encoding="utf-8"))["providers"][0]["options"]["path"]
    assert mounted("grafana")[folder] == "./grafana/dashboards"
    assert mounted("grafana")["/etc/grafana/provisioning"] == "./grafana/provisioning"
    assert mounted("prometheus")["/etc/prometheus"] == "./prometheus"
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    key = config["scrape_configs"][0]["authorization"]["credentials_file"]
    assert mounted("prometheus")[key.rpartition("/")[0]] == "metrics-key"
    assert config["scrape_configs"][0]["dns_sd_configs"][0]["names"] == ["server"]
    assert "server" in services
    receiver = yaml.safe_load((ROOT / "docker/alertmanager/alertmanager.yml").read_text(encoding="utf-8"))
    secret = receiver["receivers"][0]["slack_configs"][0]["api_url_file"]
    assert secret.removeprefix("/run/secrets/") in services["alertmanager"]["secrets"]
