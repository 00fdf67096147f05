"""What the files in `docker/` promise, as far as it can be read from them; `make docker-check` asks the tools."""

from __future__ import annotations

import os
import re
import signal
import ssl
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from env_example import COMPOSE, FIXED, SECRETS, example
from metaalign_server.settings import Settings
from tests.processes import ROOT, environment
from tests.stack.nginx import make_secrets

DOCKER = ROOT / "docker"
FILES = sorted(DOCKER.glob("compose*.yaml"))
SERVICES: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
ONE_SHOT = {"secrets", "migrate", "keys"}
NGINX = (DOCKER / "nginx/nginx.conf").read_text(encoding="utf-8")


def seconds(text: str) -> float:
    """A duration of a compose file; of a variable, its default."""
    default = re.fullmatch(r"(?:\$\{\w+:-)?(\d+)s\}?", text)
    assert default, text
    return float(default[1])


def test_every_knob_is_documented() -> None:
    """The committed example is what the settings and compose files say."""
    assert (DOCKER / ".env.example").read_text(encoding="utf-8") == example(), "run `make generated`"
    used = set()
    for file in FILES:
        used |= set(re.findall(r"(?<!\$)\$\{(\w+)", file.read_text(encoding="utf-8")))
    fields = {f"METAALIGN_{name.upper()}" for name in Settings.model_fields}
    assert used - fields == set(COMPOSE)
    assert not used & {f"METAALIGN_{name.upper()}" for name in FIXED + SECRETS}


def test_defaults_in_compose_files_are_the_documented() -> None:
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", text):
        assert COMPOSE[name][0] == default, name


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    user, group = service["user"].split(":")
    assert int(user) > 0
    assert int(group) >= 0
    assert "privileged" not in service
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    if "build" not in service:
        assert re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", service["image"]), service["image"]
    for port in service.get("ports", []):
        assert port.startswith(("127.0.0.1:", "${PUBLIC_ADDRESS:-127.0.0.1}:")), (
            "open to the network by default"
        )


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_in_a_variable(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|TOKEN|_KEY|DATABASE_URL|REDIS_URL", variable):
            assert str(value).startswith("/run/secrets"), variable


def test_services_restart_as_their_exit_codes_ask() -> None:
    for name, service in SERVICES.items():
        expected = "no" if name in ONE_SHOT else "on-failure" if name == "server" else "unless-stopped"
        assert service["restart"] == expected, name
    for name in ONE_SHOT:
        waiting = [
            other["depends_on"][name]["condition"]
            for other in SERVICES.values()
            if name in other.get("depends_on", {})
        ]
        assert set(waiting) == {"service_completed_successfully"}, name


def test_health_checks() -> None:
    asked = {name for name, service in SERVICES.items() if service.get("healthcheck", {}).get("test")}
    assert asked == {"nginx", "postgres", "redis", "prometheus", "alertmanager", "grafana"}
    assert "healthcheck" not in SERVICES["server"], "its image has one"
    dockerfile = (DOCKER / "server.Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^HEALTHCHECK .*\\\n.*/readyz", dockerfile, re.MULTILINE)


def test_nobody_is_killed_while_it_finishes() -> None:
    drain = Settings.model_fields["drain_seconds"].default
    assert seconds(SERVICES["server"]["stop_grace_period"]) > drain + 5  # what a stop takes at most
    shutdown = re.search(r"worker_shutdown_timeout (\d+)s;", NGINX)
    assert shutdown
    assert seconds(SERVICES["nginx"]["stop_grace_period"]) > float(shutdown[1])


def test_nginx_has_the_servers_limits() -> None:
    size = re.search(r"client_max_body_size (\d+)m;", NGINX)
    assert size
    assert int(size[1]) * 1024 * 1024 == Settings.model_fields["max_body_bytes"].default
    timeout = re.search(r"^    send_timeout (\d+)s;", NGINX, re.MULTILINE)
    assert timeout
    assert float(timeout[1]) == Settings.model_fields["write_seconds"].default
    writes, inference = re.findall(r"proxy_next_upstream ([^;]+);", NGINX)
    assert writes == "error timeout"
    assert "non_idempotent" in inference
    assert "proxy_buffering off;" in NGINX


def test_networks_are_separate() -> None:
    networks: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))[
        "networks"
    ]
    assert {name for name, network in networks.items() if network.get("internal")} == {"store", "telemetry"}
    assert SERVICES["nginx"]["networks"] == ["edge"]
    assert {name for name, s in SERVICES.items() if "store" in s.get("networks", [])} == {
        "postgres", "redis", "server", "migrate", "keys",
    }  # fmt: skip


def mounted(name: str) -> set[str]:
    """Where the volumes and secrets of a service are in its container."""
    service = SERVICES[name]
    volumes = {volume.split(":")[1] for volume in service.get("volumes", [])}
    return volumes | {f"/run/secrets/{secret}" for secret in service.get("secrets", [])}


def test_what_configurations_name_is_there() -> None:
    """Files and hosts in the configuration of one service are those that the compose file gives it."""
    texts = {
        "prometheus": (DOCKER / "prometheus/prometheus.yml").read_text(encoding="utf-8"),
        "alertmanager": (DOCKER / "alertmanager/alertmanager.yml").read_text(encoding="utf-8"),
        "nginx": (DOCKER / "nginx/listen.conf").read_text(encoding="utf-8"),
    }
    for path in (DOCKER / "grafana/provisioning").rglob("*.yaml"):
        texts["grafana"] = texts.get("grafana", "") + path.read_text(encoding="utf-8")
    for name, text in texts.items():
        for path in re.findall(r"(?:_file: |path: |certificate(?:_key)? +)(/[\w./-]+)", text):
            places = mounted(name)
            assert any(path == place or path.startswith(f"{place}/") for place in places), f"{name}: {path}"
    hosts = set(re.findall(r"(?:targets: \[|url: http://|names: \[)([\w-]+)", "".join(texts.values())))
    assert hosts <= {*SERVICES, "localhost"}
    assert {"server", "prometheus", "alertmanager", "tempo"} <= hosts


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_pinned_and_run_without_root(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert re.search(r"^ARG PYTHON_IMAGE=\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) <= stages | {"${PYTHON_IMAGE}"}
    finals = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    for final in finals[-2:] if file.name.startswith("server") else finals[-1:]:
        assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
        compiler = re.search(r"^\s.*apt-get install.*gcc", final, re.MULTILINE)
        assert not compiler or "A C compiler: Triton" in text
    if file.name.startswith("server"):
        assert "gcc" not in finals[-2], "the CPU image has no compiler"


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    make_secrets(tmp_path, "llm.example.com")
    files = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()}
    names = {str(path.relative_to(tmp_path)) for path in files}
    assert names == {
        "secrets/metaalign_database_url", "secrets/metaalign_redis_url", "postgres-secrets/password",
        "redis-secrets/password", "redis-secrets/requirepass.conf", "grafana-secrets/admin_password",
        "tls/tls.crt", "tls/tls.key",
    }  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o440}
    password = files[tmp_path / "postgres-secrets/password"]
    assert len(password) > 40
    assert password in files[tmp_path / "secrets/metaalign_database_url"]
    trusting = ssl.create_default_context(cafile=tmp_path / "tls/tls.crt")
    (certificate,) = trusting.get_ca_certs()
    assert ("DNS", "llm.example.com") in certificate["subjectAltName"]
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
        tmp_path / "tls/tls.crt", tmp_path / "tls/tls.key"
    )
    make_secrets(tmp_path, "llm.example.com")
    assert {path: path.read_text(encoding="utf-8") for path in files} == files


def supervised(folder: Path, program: str) -> subprocess.Popen[str]:
    """The wrapper, around a program in place of the server."""
    fake = folder / "metaalign-server"
    fake.write_text(f"#!/bin/sh\n{program}\n")
    fake.chmod(0o755)
    env = environment({"PATH": f"{folder}:{os.environ['PATH']}"})
    return subprocess.Popen(
        [DOCKER / "supervised.sh", "serve"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("code", "passed_on"), [(0, 0), (1, 1), (2, 0), (65, 0), (69, 69), (70, 70)])
def test_only_what_a_restart_can_help_is_restarted(tmp_path: Path, code: int, passed_on: int) -> None:
    """Docker restarts a container unless its exit code is 0; the codes are those of docs/reliability.md."""
    process = supervised(tmp_path, f"exit {code}")
    said = process.communicate(timeout=20)[1]
    assert process.returncode == passed_on
    assert (f"exit code {code}" in said) == (code in (2, 65))


def test_a_supervised_server_drains(tmp_path: Path) -> None:
    """SIGTERM reaches the server, and the wrapper waits for its end."""
    process = supervised(
        tmp_path, "trap 'sleep 1; echo drained; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == "drained\n"
    assert process.returncode == 0
    assert time.monotonic() - started > 0.9
