"""Whatever is asked of a service, it answers as its OpenAPI document says; nothing is a fault of its own."""

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from ingest_gateway.openapi import api
from k2local.testing import Fleet
from schemathesis.checks import CHECKS, load_all_checks

load_all_checks()
# The same requests in every run; with a number of examples others, to look for more.
WANTED = os.environ.get("K2_OPENAPI_EXAMPLES")
EXAMPLES = int(WANTED or "25")
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
schemathesis.openapi.format("k2-time", st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"))
schemathesis.openapi.format("k2-zone", st.sampled_from(["UTC", "Australia/Sydney", "Asia/Tokyo"]))
schemathesis.openapi.format("k2-page-token", st.nothing() | st.just("x"))
gateway = schemathesis.openapi.from_dict(dict(api()))


@schemathesis.serializer("text/csv", "application/zip")
def as_bytes(ctx: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(getattr(value, "data", value)).encode()


@pytest.fixture(scope="session")
def committed(fleet: Fleet) -> list[str]:
    """Uploads that can be asked for, retracted and loaded again."""
    rows = [f"2024-01-02T00:00:00Z,{n}.5,1,S{n}\n" for n in range(3)]
    files = [f"ts_event,price,size,symbol\n{row}x,y,z,w\n".encode() for row in rows]
    made = [fleet.upload(file, dataset="trades", venue="XASX", batch="openapi") for file in files]
    return [receipt["upload_id"] for receipt in made]


@gateway.parametrize()
@settings(
    max_examples=EXAMPLES, derandomize=WANTED is None, deadline=None, suppress_health_check=list(HealthCheck)
)
def test_the_gateway_answers_as_documented(case: Any, fleet: Fleet, committed: list[str]) -> None:
    given = dict(case.path_parameters or {})
    # Half of the cases are about uploads that exist.
    if "upload_id" in given and len(str(case.query)) % 2:
        case.path_parameters["upload_id"] = committed[len(str(given)) % len(committed)]
    case.call_and_validate(
        base_url=fleet.url("ingest-gateway"), checks=[CHECKS.get_one(name) for name in CHECKED], timeout=60
    )


def test_the_document_and_its_page_are_served(fleet: Fleet) -> None:
    text = fleet.get("ingest-gateway", "/openapi.json").json()
    assert text == api()
    page = fleet.get("ingest-gateway", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert all(path in page.text for path in text["paths"])
