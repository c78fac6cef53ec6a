"""Broker or registry hang: what was accepted goes on by itself afterwards, what was not was told so."""

import time

import httpx
import pytest
from k2local.testing import Fleet

ROWS = 60_000
HEADER = "ts_event_ns,symbol,venue,price,size\n"
START = 1_700_000_000_000_000_000


def content(rows: int, symbol: str) -> bytes:
    return (HEADER + "".join(f"{START + n},{symbol},XTST,1,1\n" for n in range(rows))).encode()


@pytest.mark.timeout(300)
def test_accepted_uploads_survive_and_others_are_refused_with_a_time_to_come_back(fleet: Fleet) -> None:
    before = fleet.post(content(ROWS, "BEFORE"), dataset="trades")
    assert before.status_code == 202
    with fleet.hanging("kafka"):
        refused = fleet.post(content(10, "DURING"), dataset="trades")
        assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
        assert int(refused.headers["Retry-After"]) > 0
        # What is known is still told.
        upload = before.json()["data"]["upload_id"]
        assert fleet.get("ingest-gateway", f"/v1/uploads/{upload}").status_code == 200
    again = fleet.upload(content(10, "DURING"), dataset="trades")
    assert (again["state"], again["rows"]["committed"]) == ("committed", 10)
    receipt = fleet.receipt(upload)
    assert (receipt["state"], receipt["rows"]["committed"]) == ("committed", ROWS)
    for symbol, rows, version in (("BEFORE", ROWS, receipt["version"]), ("DURING", 10, again["version"])):
        answer = fleet.get("query-service", "/v1/trades", symbols=symbol, format="csv", as_of=version)
        assert len(answer.text.splitlines()) == rows + 1


@pytest.mark.timeout(300)
def test_a_loader_waits_for_the_registry_and_refuses_no_row(fleet: Fleet) -> None:
    with fleet.hanging("registry"):
        fleet.kill("csv-loader")
        answer = fleet.post(content(10, "WAITING"), dataset="trades")
        assert answer.status_code == 202
        assert "registry" in blocked_by(fleet, "csv-loader")
    receipt = fleet.receipt(answer.json()["data"]["upload_id"])
    counts = receipt["rows"]
    assert (receipt["state"], counts["committed"], counts["rejected"]) == ("committed", 10, 0)


def blocked_by(fleet: Fleet, service: str) -> str:
    """What a service says that it waits for, once it answers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            reasons = httpx.get(f"{fleet.url(service)}/readyz", timeout=2).json()["blocked_by"]
        except httpx.TransportError:
            reasons = {}
        found = " ".join(reasons.values())
        if "registry" in found:
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{service} does not say what it waits for")
