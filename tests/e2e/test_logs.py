"""Each line is JSON, an upload's lines are found by its id, and none quotes a row, a key or a statement."""

import json
from uuid import uuid4

import httpx
import pytest
from k2local.testing import Fleet, GivenFleet

from tests.e2e.files import HEADER, START, file_of
from tests.e2e.logs import lines, texts

MARKER = f"M4RK{uuid4().hex[:12].upper()}"
"""Stands in rows, keys and statements, and so in no line."""


@pytest.fixture(autouse=True)
def _own(fleet: Fleet) -> None:
    if isinstance(fleet, GivenFleet):
        pytest.skip("the logs of a given fleet are somewhere else")


def rows(*faults: str) -> bytes:
    good = [f"{START + n},{MARKER},XTST,1.5,{n + 1},{n}" for n in range(3)]
    return file_of([*good, *faults])


def test_an_uploads_lines_are_found_by_its_id_and_its_request_by_the_requests(fleet: Fleet) -> None:
    trace, request_id = uuid4().hex, f"r-{uuid4().hex}"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-ID": request_id}
    answer = fleet.post(rows(f"x,{MARKER},XTST,1,1,1"), headers=headers, dataset="trades")
    assert answer.headers["X-Request-ID"] == request_id
    upload_id = answer.json()["data"]["upload_id"]
    assert fleet.receipt(upload_id)["rows"]["committed"] == 3
    of_upload = [line for line in lines(fleet.settings) if line.get("upload_id") == upload_id]
    told = [(line["service"], line["event"]) for line in of_upload]
    assert told[:2] == [("ingest-gateway", "upload claimed"), ("ingest-gateway", "upload published")]
    assert {("csv-loader", "upload parsed"), ("iceberg-sink", "upload settled")} < set(told)
    assert of_upload[0]["request_id"] == request_id
    assert {line["trace_id"] for line in of_upload} == {trace}


def quoting(fleet: Fleet) -> None:
    """Everything that goes wrong with a row, a body, a key or a statement that holds the marker."""
    fleet.upload(rows(f"{START},{MARKER},XTST,{MARKER},1,1"), dataset="trades", on_error="abort")
    fleet.upload(rows(f'{START},"{MARKER}'), dataset="trades")
    fleet.post(rows(f"{START},{MARKER},XTST,1,1,1" + "x" * 2_000_000), dataset="trades")
    fleet.post(f"{HEADER},{MARKER}\n".encode() + b"\xff\xfe", dataset="trades")
    fleet.post(f"{MARKER}\n1\n".encode(), dataset="trades")
    fleet.post(rows(), dataset="trades", layout=json.dumps({"name": MARKER}))
    fleet.post(rows(), dataset="trades", headers={"Content-Encoding": "gzip", "X-API-Key": MARKER})
    fleet.post(rows(), dataset="trades", headers={"Idempotency-Key": MARKER, "Authorization": MARKER})
    fleet.get("query-service", "/v1/trades", symbols=MARKER, start=MARKER)
    fleet.get("query-service", "/v1/trades", page_token=MARKER)
    statements = (
        f"SELECT CAST(symbol AS INTEGER) FROM trades WHERE symbol = '{MARKER}'",
        f"SELECT {MARKER} FROM",
        f"SELECT * FROM read_csv('{MARKER}')",
    )
    for sql in statements:
        answer = httpx.post(f"{fleet.url('query-service')}/v1/sql", json={"sql": sql}, timeout=60)
        assert answer.is_client_error, answer.text
    body = {"datasets": [MARKER], "symbols": [MARKER]}
    assert httpx.post(f"{fleet.url('replay-service')}/v1/replays", json=body, timeout=60).is_client_error


def test_no_line_quotes_what_users_sent(fleet: Fleet) -> None:
    quoting(fleet)
    assert lines(fleet.settings)
    assert [name for name, text in texts(fleet.settings).items() if MARKER in text] == []
