"""Every contract of .importlinter is broken by an import that it is there to forbid."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter import api
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import Contract

ROOT = Path(__file__).parents[2]
KINDS: Mapping[str, type[Contract]] = {
    "acyclic_siblings": AcyclicSiblingsContract,
    "forbidden": ForbiddenContract,
    "independence": IndependenceContract,
    "layers": LayersContract,
}
VIOLATIONS = {
    "services": ("csv_loader.app", "iceberg_sink.settings"),
    "acyclic": (
        "k2common.kafka.topics",
        "k2common.registry.client",
        "k2common.registry.client",
        "k2common.kafka.topics",
    ),
    "testing": ("iceberg_sink.app", "k2common.testing.kafka_proxy"),
    "layers": ("k2common.iceberg.reading.plan", "k2common.runtime.clock"),
    "iceberg": ("k2common.iceberg.commits.commit", "k2common.iceberg.reading.reader"),
    "gateway": ("ingest_gateway.receipts.tracker", "ingest_gateway.http.routes"),
    "sink": ("iceberg_sink.batches.batches", "iceberg_sink.commits.writer"),
    "query": ("query_service.answers.pages", "query_service.ticks.rows"),
    "pure": ("k2common.columnar.decode", "asyncio"),
    "decision": ("k2common.iceberg.commits.decision", "k2common.iceberg.catalogs.catalog"),
    "visibility": ("iceberg_sink.uploads.visibility", "k2common.kafka.producer"),
    "receipts": ("ingest_gateway.receipts.receipts", "k2common.iceberg.reading.reader"),
    "door-kafka": ("csv_loader.partition", "aiokafka"),
    "door-registry": ("csv_loader.partition", "schema_registry"),
    "door-iceberg": ("iceberg_sink.commits.writer", "pyiceberg"),
    "door-engine": ("query_service.sql.views", "duckdb"),
    "door-traces": ("k2common.kafka.producer", "opentelemetry"),
    "door-metrics": ("iceberg_sink.metrics", "prometheus_client"),
    "door-client": ("query_service.citations.in_process_client", "httpx"),
    "door-polars": ("csv_loader.processing", "polars"),
    "door-server": ("replay_service.app", "uvicorn"),
    "door-http": ("k2common.engine.scan", "starlette"),
}
"""By contract: importer and imported, once or more."""
EXHAUSTIVE = {
    "layers": "k2common.fresh",
    "iceberg": "k2common.iceberg.fresh",
    "gateway": "ingest_gateway.fresh",
    "sink": "iceberg_sink.fresh",
    "query": "query_service.fresh",
}
CONFIGURATION = api.read_configuration(str(ROOT / ".importlinter"))
CONTRACTS: Mapping[str, Mapping[str, Any]] = {
    options["id"]: options for options in CONFIGURATION["contracts_options"]
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    roots = CONFIGURATION["session_options"]["root_packages"]
    return grimp.build_graph(*roots, include_external_packages=True, cache_dir=None)


def is_kept(contract_id: str, graph: grimp.ImportGraph) -> bool:
    options = {
        name: value for name, value in CONTRACTS[contract_id].items() if name not in ("id", "name", "type")
    }
    kind = KINDS[CONTRACTS[contract_id]["type"]]
    contract = kind(
        name=CONTRACTS[contract_id]["name"],
        session_options=CONFIGURATION["session_options"],
        contract_options=options,
    )
    return contract.check(deepcopy(graph), verbose=False).kept


def test_each_contract_has_its_violation() -> None:
    assert sorted(VIOLATIONS) == sorted(CONTRACTS)


@pytest.mark.parametrize("contract_id", VIOLATIONS)
def test_a_contract_holds_until_it_is_violated(contract_id: str, graph: grimp.ImportGraph) -> None:
    assert is_kept(contract_id, graph)
    violated = deepcopy(graph)
    imports = iter(VIOLATIONS[contract_id])
    for importer, imported in zip(imports, imports, strict=True):
        assert importer in violated.modules, f"there is no module {importer}"
        assert imported in violated.modules, f"there is no module {imported}"
        violated.add_import(importer=importer, imported=imported)
    assert not is_kept(contract_id, violated)


@pytest.mark.parametrize("contract_id", EXHAUSTIVE)
def test_a_package_without_a_layer_is_refused(contract_id: str, graph: grimp.ImportGraph) -> None:
    grown = deepcopy(graph)
    grown.add_module(EXHAUSTIVE[contract_id])
    assert not is_kept(contract_id, grown)
