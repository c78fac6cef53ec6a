"""The compose file as it is: what the embedded stack promises, on containers, S3 and a REST catalogue."""

import json

import pytest
from k2boards.boards import BOARDS
from k2local.testing import Fleet

from tests.containers.composed import DEPENDENCIES, FLEET, Stack, prometheus
from tests.observability.expressions import substituted

END_TO_END = [
    f"tests/e2e/test_{name}.py" for name in ("asx", "binance", "bodies", "changes", "gaps", "uploads")
]
HEADER = b"ts_event_ns,symbol,venue,price,size\n"


def test_every_container_is_healthy_and_within_its_memory(composed: Stack, figures: list[str]) -> None:
    for service in (*DEPENDENCIES, *FLEET, "prometheus", "grafana"):
        (container,) = composed.containers(service)
        assert composed.health(container) == "healthy"
    used = composed.docker("stats", "--no-stream", "--format", "{{.Name}}: {{.MemUsage}}").splitlines()
    figures += [f"resident, idle: {line}" for line in sorted(used) if line.startswith("k2test")]


def test_the_end_to_end_tests_pass(composed: Stack, figures: list[str]) -> None:
    figures.append(f"end-to-end tests: {composed.passes(*END_TO_END)}")
    used = composed.docker("stats", "--no-stream", "--format", "{{.Name}}: {{.MemUsage}}").splitlines()
    figures += [f"resident, after them: {line}" for line in sorted(used) if line.startswith("k2test")]


def test_the_integration_tests_of_kafka_and_registry_pass(composed: Stack, figures: list[str]) -> None:
    done = composed.passes("tests/integration/kafka", "tests/integration/registry")
    figures.append(f"integration tests: {done}")


def test_tables_and_archive_lie_in_the_store(composed: Stack, fleet: Fleet) -> None:
    receipt = fleet.upload(HEADER + b"1700000000000000001,ST,XTST,1,1\n", dataset="trades")
    assert (receipt["state"], receipt["rows"]["committed"]) == ("committed", 1)
    (gateway,) = composed.containers("ingest-gateway")
    told = json.loads(composed.docker("inspect", "--format", "{{json .Config.Env}}", gateway))
    assert "K2_ICEBERG__CATALOG_TYPE=rest" in told
    # No state but the spool and the spill folders: the root file systems cannot be written.
    for service in FLEET:
        (container,) = composed.containers(service)
        with pytest.raises(RuntimeError, match="Read-only"):
            composed.docker("exec", "--user=0", container, "touch", "/opt/k2/file")


def test_prometheus_sees_every_service(composed: Stack) -> None:
    targets = prometheus(composed, "targets", state="active")["activeTargets"]
    assert {target["labels"]["job"]: target["health"] for target in targets} == dict.fromkeys(FLEET, "up")


def test_prometheus_has_read_the_rules_and_can_evaluate_them(composed: Stack) -> None:
    groups = prometheus(composed, "rules")["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert {"K2ServiceDown", "K2RowsUnaccounted", "k2:chunks_waiting:sum"} <= health.keys()
    assert set(health.values()) <= {"ok", "unknown"}


def test_every_panel_of_every_dashboard_has_a_query_with_an_answer(composed: Stack, fleet: Fleet) -> None:
    fleet.upload(HEADER + b"1700000000000000002,ST,XTST,1,1\n", dataset="trades")
    assert fleet.data("query-service", "/v1/trades", symbols="ST")
    silent = []
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                expression = substituted(query.expr, span="1m")
                if not prometheus(composed, "query", query=expression)["result"]:
                    silent.append((board.uid, panel.title))
    # Nobody is asked for a key here, and nothing is wrong.
    assert set(silent) <= {("k2-fleet", "Until a key ends"), ("k2-fleet", "Alerts that fire")}
