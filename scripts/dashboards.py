"""Writes Grafana's dashboards: `python scripts/dashboards.py docker/grafana/dashboards`.

Expressions use the names of the recording rules where there is one, and no variable of Grafana's, so that tests can ask
Prometheus the same question.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["DASHBOARDS", "Dashboard", "Panel", "dashboard_files"]

_COLUMNS = 24
_WIDTH, _HEIGHT = 8, 8
_SOURCE = {"type": "prometheus", "uid": "prometheus"}


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        unit: Grafana's name of the unit.
        queries: Expressions by legend; a legend may name labels, as in `{{route}}`.
        kind: Grafana's type: `timeseries` or `stat`.
    """

    title: str
    unit: str
    queries: dict[str, str]
    description: str = ""
    kind: str = "timeseries"


@dataclass(frozen=True)
class Dashboard:
    """One dashboard: its panels by row."""

    uid: str
    title: str
    rows: dict[str, tuple[Panel, ...]]

    @property
    def panels(self) -> Iterator[Panel]:
        """All panels, in order."""
        for row in self.rows.values():
            yield from row


def _quantiles(bucket_rate: str, by: str = "") -> dict[str, str]:
    """Median, 95th and 99th percentile of a recorded rate of buckets."""
    labels = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return {
        f"p{percent}{legend}": f"histogram_quantile({percent / 100:g}, sum by ({labels}) ({bucket_rate}))"
        for percent in (50, 95, 99)
    }


def _rate(metric: str, by: str = "") -> str:
    return f"sum by ({by}) (rate({metric}[5m]))" if by else f"sum(rate({metric}[5m]))"


def _share_of_budget(record: str, allowed: str) -> dict[str, str]:
    """How many times the allowed rate of misses there is, over several windows."""
    return {
        window: f"max(job:{record}:ratio_rate{window}) / {allowed}" for window in ("5m", "1h", "6h", "3d")
    }


_OVERVIEW = Dashboard(
    "metaalign-overview",
    "Overview",
    {
        "State": (
            Panel("Servers that are ready", "none", {"ready": "sum(metaalign_ready)"}, kind="stat"),
            Panel(
                "Services that answer",
                "none",
                {"{{dependency}}": "min by (dependency) (metaalign_dependency_up)"},
                kind="stat",
            ),
            Panel(
                "Versions",
                "none",
                {"{{version}}, vLLM {{vllm}}": "count by (version, vllm) (metaalign_build_info)"},
                kind="stat",
            ),
        ),
        "Objectives": (
            Panel(
                "Errors: times the allowed rate",
                "none",
                _share_of_budget("metaalign_unavailable", "0.001"),
                "1 uses up exactly the allowance of 0.1% in 30 days. An alert is critical at 14.4 over an hour.",
            ),
            Panel(
                "Latency: times the allowed rate",
                "none",
                _share_of_budget("metaalign_slow_streams", "0.01"),
                "1 uses up exactly the allowance of 1% in 30 days. An alert is critical at 14.4 over an hour.",
            ),
            Panel("Requests in flight", "none", {"{{instance}}": "metaalign_requests_in_flight"}),
        ),
        "Traffic": (
            Panel(
                "Requests by route",
                "reqps",
                {"{{route}}": "sum by (route) (job_route:metaalign_requests:rate5m)"},
            ),
            Panel(
                "Requests by status",
                "reqps",
                {"{{status}}": "sum by (status) (job_status:metaalign_requests:rate5m)"},
                "Status 0: the client left before there was an answer.",
            ),
            Panel(
                "Tokens",
                "none",
                {
                    "prompt": _rate("metaalign_prompt_tokens_total"),
                    "of these cached": _rate("metaalign_prompt_cached_tokens_total"),
                    "output": _rate("metaalign_output_tokens_total"),
                },
                "Tokens per second.",
            ),
        ),
        "Errors": (
            Panel(
                "Refusals by code",
                "reqps",
                {"{{code}}": "sum by (code) (job_code:metaalign_refusals:rate5m) > 0"},
                "docs/errors.md explains the codes.",
            ),
            Panel(
                "Requests with a 5xx",
                "percentunit",
                {"{{job}}": "job:metaalign_unavailable:ratio_rate5m"},
            ),
            Panel(
                "Refused by limits",
                "reqps",
                {"{{owner}} {{limit}}": _rate("metaalign_limits_refusals_total", "owner, limit")},
            ),
        ),
        "Latency": (
            Panel(
                "Begin of streams",
                "s",
                _quantiles("job_le:metaalign_stream_first_byte_seconds_bucket:rate5m"),
                "From a request's arrival to the first byte of its stream.",
            ),
            Panel(
                "First token in the engine",
                "s",
                _quantiles("job_le:vllm_time_to_first_token_seconds_bucket:rate5m"),
                "Without the wait for a place and the server's own work.",
            ),
            Panel(
                "Whole answers, p95 by route",
                "s",
                {
                    "{{route}}": "histogram_quantile(0.95, sum by (le, route)"
                    " (job_route_le:metaalign_request_duration_seconds_bucket:rate5m)) > 0"
                },
            ),
        ),
    },
)

_PLATFORM = Dashboard(
    "metaalign-platform",
    "Preferences and platform",
    {
        "Preferences": (
            Panel(
                "Answers to which preferences were applied",
                "percentunit",
                {"{{job}}": "job:metaalign_preferences_applied:ratio_rate5m"},
            ),
            Panel(
                "Values that lost to others",
                "none",
                {
                    "{{tier}}, lost to {{by}}": _rate("metaalign_preferences_overridden_total", "tier, by"),
                },
                "Per second.",
            ),
            Panel(
                "Checks of answers, by check and verdict",
                "none",
                {"{{check}}, passed: {{passed}}": _rate("metaalign_verdicts_total", "check, passed")},
                "Per second, where requests ask with `verify`.",
            ),
            Panel(
                "Refused preferences by code",
                "reqps",
                {
                    "{{code}}": "sum by (code) (job_code:metaalign_refusals:rate5m"
                    '{code=~"invalid_preferences|system_tier_forbidden|profile_not_found|conflicting_profiles"})'
                },
            ),
        ),
        "Meta-Prompts": (
            Panel(
                "Prompt tokens in the prefix cache",
                "percentunit",
                {
                    "preferences: {{preferences}}": "max by (preferences)"
                    " (job_preferences:metaalign_prompt_cached_tokens:ratio_rate5m)"
                },
            ),
            Panel(
                "Meta-Prompts that were rendered already",
                "percentunit",
                {"{{job}}": "job:metaalign_meta_prompt_hits:ratio_rate5m"},
            ),
            Panel(
                "Time to make one that was not",
                "s",
                {
                    "p95 {{stage}}": "histogram_quantile(0.95, sum by (le, stage)"
                    " (rate(metaalign_meta_prompt_seconds_bucket[5m]))) > 0"
                },
            ),
        ),
        "Queue": (
            Panel(
                "Requests that wait",
                "none",
                {
                    "waiting {{instance}}": "metaalign_queue_waiting",
                    "at most {{instance}}": "metaalign_queue_waiting_limit",
                },
            ),
            Panel(
                "Places in the engine",
                "none",
                {
                    "used {{instance}}": "metaalign_queue_places_used",
                    "all {{instance}}": "metaalign_queue_places",
                },
            ),
            Panel(
                "Wait for a place",
                "s",
                _quantiles("rate(metaalign_queue_wait_seconds_bucket[5m])"),
                "Of the requests that had to wait.",
            ),
        ),
        "Store": (
            Panel(
                "Transactions, p95",
                "s",
                {
                    "{{kind}}": "histogram_quantile(0.95, sum by (le, kind)"
                    " (rate(metaalign_store_transaction_duration_seconds_bucket[5m]))) > 0"
                },
            ),
            Panel(
                "Failed transactions",
                "none",
                {"{{kind}} {{code}}": _rate("metaalign_store_errors_total", "kind, code")},
                "Per second.",
            ),
            Panel(
                "Look-ups answered from memory",
                "percentunit",
                {"{{cache}}": "max by (cache) (job_cache:metaalign_lookup_hits:ratio_rate5m)"},
            ),
            Panel(
                "Values used past their time",
                "none",
                {"stale": _rate("metaalign_store_stale_reads_total")},
                "Per second: the store was away or slow.",
            ),
            Panel(
                "Exchanges and responses",
                "none",
                {
                    "not yet written": "sum(metaalign_exchanges_waiting)",
                    "dropped in an hour": "sum(increase(metaalign_exchanges_dropped_total[1h]))",
                    "responses not stored in an hour": "sum(increase(metaalign_responses_dropped_total[1h]))",
                },
            ),
            Panel(
                "Erasure",
                "none",
                {"incomplete {{instance}}": "metaalign_erasure_pending"},
                "1 while an SQLite file may hold copies of deleted rows.",
            ),
        ),
        "Limits": (
            Panel(
                "Counted by one server alone",
                "reqps",
                {"{{instance}}": _rate("metaalign_limits_fallback_total", "instance")},
                "Because Redis was away.",
            ),
        ),
    },
)

_ENGINE = Dashboard(
    "metaalign-engine",
    "Engine",
    {
        "Work": (
            Panel(
                "Sequences",
                "none",
                {
                    "running": "sum(vllm:num_requests_running)",
                    "waiting": "sum(vllm:num_requests_waiting)",
                },
                "Those that wait here have a place of ours already.",
            ),
            Panel(
                "Tokens",
                "none",
                {
                    "prompt": _rate("vllm:prompt_tokens_total"),
                    "output": _rate("vllm:generation_tokens_total"),
                },
                "Tokens per second.",
            ),
            Panel(
                "Sequences that ended",
                "none",
                {"{{finished_reason}}": _rate("vllm:request_success_total", "finished_reason")},
                "Per second.",
            ),
        ),
        "Time": (
            Panel("Between tokens", "s", _quantiles("rate(vllm:inter_token_latency_seconds_bucket[5m])")),
            Panel("Whole sequences", "s", _quantiles("rate(vllm:e2e_request_latency_seconds_bucket[5m])")),
            Panel("Wait in the engine", "s", _quantiles("rate(vllm:request_queue_time_seconds_bucket[5m])")),
        ),
        "Memory": (
            Panel("KV cache in use", "percentunit", {"{{instance}}": "vllm:kv_cache_usage_perc"}),
            Panel(
                "Prefix cache: tokens found",
                "percentunit",
                {
                    "{{instance}}": "sum by (instance) (rate(vllm:prefix_cache_hits_total[5m]))"
                    " / (sum by (instance) (rate(vllm:prefix_cache_queries_total[5m])) > 0)"
                },
            ),
            Panel("Preemptions", "none", {"preemptions": _rate("vllm:num_preemptions_total")}, "Per second."),
        ),
        "Health": (
            Panel(
                "Silence of the engine",
                "s",
                {
                    "{{instance}}": "metaalign_engine_silence_seconds",
                    "not ready {{instance}}": "metaalign_engine_silence_limit_seconds",
                },
            ),
            Panel("Told to stop", "none", {"{{instance}}": "metaalign_draining"}),
            Panel("Tasks of the event loop", "none", {"{{instance}}": "metaalign_event_loop_tasks"}),
        ),
    },
)

DASHBOARDS = (_OVERVIEW, _PLATFORM, _ENGINE)


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": expr, "legendFormat": legend}
            for index, (legend, expr) in enumerate(panel.queries.items())
        ],
    }


def _document(dashboard: Dashboard) -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in dashboard.rows.items():
        position = {"h": 1, "w": _COLUMNS, "x": 0, "y": y}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "gridPos": position, "panels": []}
        )
        y += 1
        per_line = _COLUMNS // _WIDTH
        for index, panel in enumerate(row):
            line, column = divmod(index, per_line)
            panels.append(_panel(panel, len(panels) + 1, column * _WIDTH, y + line * _HEIGHT))
        y += -(-len(row) // per_line) * _HEIGHT
    return {
        "uid": dashboard.uid,
        "title": f"MetaAlign: {dashboard.title}",
        "tags": ["metaalign"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "datasource": _SOURCE,
                    "enable": True,
                    "iconColor": "red",
                    "expr": 'ALERTS{alertstate="firing", alertname=~"MetaAlign.+"}',
                    "titleFormat": "{{alertname}}",
                }
            ]
        },
        "links": [{"type": "dashboards", "title": "MetaAlign", "tags": ["metaalign"], "asDropdown": True}],
        "panels": panels,
    }


def dashboard_files() -> dict[str, str]:
    """The text of each file by its name."""
    return {f"{d.uid}.json": json.dumps(_document(d), indent=2) + "\n" for d in DASHBOARDS}


if __name__ == "__main__":
    for name, text in dashboard_files().items():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")
