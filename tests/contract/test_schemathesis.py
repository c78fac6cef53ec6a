"""Whatever is asked of a service, it answers with a status that its document names, and never with 5xx.

`CONTRACT_EXAMPLES` is the number of random requests an operation, 100 unless given; those at the bounds of
each parameter come besides. With fewer, /v1/sql gets the random ones alone: each statement takes a process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from k2local.testing import Fleet
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import SchemathesisConfig

from tests.contract.documents import DOCUMENTS

pytestmark = pytest.mark.timeout(1_800)
load_all_checks()
ALL_EXAMPLES = 100
EXAMPLES = int(os.environ.get("CONTRACT_EXAMPLES", ALL_EXAMPLES))
BOUNDS = {"include-path": "/v1/sql", "phases": {"coverage": {"enabled": EXAMPLES >= ALL_EXAMPLES}}}
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
STRICT = (*CHECKED, "negative_data_rejection")
SECONDS = 60
run = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
schemathesis.openapi.format("k2-time", st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"))
schemathesis.openapi.format("k2-zone", st.sampled_from(["UTC", "Australia/Sydney", "Asia/Tokyo"]))
schemathesis.openapi.format("k2-page-token", st.nothing() | st.just("x"))
gateway, loader, sink, query, replay = (
    schemathesis.openapi.from_dict(
        dict(document()), config=SchemathesisConfig.from_dict({"operations": [BOUNDS]})
    )
    for document in DOCUMENTS.values()
)


@schemathesis.serializer("text/csv", "application/zip", "application/octet-stream")
def as_bytes(ctx: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(getattr(value, "data", value)).encode()


def check(case: Any, fleet: Fleet, service: str, known: dict[str, list[str]], checks: Sequence[str]) -> None:
    # Half of the cases are about what exists.
    for name in case.path_parameters or {}:
        if name in known and len(str(case.query)) % 2:
            choices = known[name]
            case.path_parameters[name] = choices[len(str(case.query)) // 2 % len(choices)]
    case.call_and_validate(
        base_url=fleet.url(service), checks=[CHECKS.get_one(name) for name in checks], timeout=SECONDS
    )


@gateway.parametrize()
@run
def test_ingest_gateway(case: Any, fleet: Fleet, known: dict[str, list[str]]) -> None:
    check(case, fleet, "ingest-gateway", known, STRICT)


@loader.parametrize()
@run
def test_csv_loader(case: Any, fleet: Fleet, known: dict[str, list[str]]) -> None:
    check(case, fleet, "csv-loader", known, CHECKED)


@sink.parametrize()
@run
def test_iceberg_sink(case: Any, fleet: Fleet, known: dict[str, list[str]]) -> None:
    check(case, fleet, "iceberg-sink", known, CHECKED)


@query.parametrize()
@run
def test_query_service(case: Any, fleet: Fleet, known: dict[str, list[str]]) -> None:
    check(case, fleet, "query-service", known, CHECKED)


@replay.parametrize()
@run
def test_replay_service(case: Any, fleet: Fleet, known: dict[str, list[str]]) -> None:
    check(case, fleet, "replay-service", known, CHECKED)


def test_the_documents_are_those_that_are_served(fleet: Fleet) -> None:
    for service, document in DOCUMENTS.items():
        assert fleet.get(service, "/openapi.json").json() == document()


def test_the_pages_are_served_with_every_operation(fleet: Fleet) -> None:
    for service, document in DOCUMENTS.items():
        page = fleet.get(service, "/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert all(path in page.text for path in document()["paths"])
        assert fleet.get(service, "/docs/swagger-ui-bundle.js").is_success
        assert fleet.get(service, "/").json()["data"]["service"] == f"K2 {service}"
