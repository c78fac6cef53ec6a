"""Whatever is killed, scaled or taken down, each row is there once."""

import json
import time
from typing import Any
from uuid import uuid4

import httpx
import pytest
from k2local.testing import Fleet

from tests.containers.composed import DEPENDENCIES, FLEET, Stack

ROWS = 60_000
START = 1_700_000_000_000_000_000
SECONDS = 240
DIE = "import os, signal; os.kill(int(open('/proc/1/task/1/children').read()), signal.SIGKILL)"
"""The service is the one child of the container's init."""


def symbol() -> str:
    return f"C{uuid4().hex[:10].upper()}"


def file_of(name: str, rows: int = ROWS) -> bytes:
    lines = (f"{START + n},{name},XTST,{n % 7}.25,{1 + n % 5}\n" for n in range(rows))
    return ("ts_event_ns,symbol,venue,price,size\n" + "".join(lines)).encode()


def posted(fleet: Fleet, content: bytes) -> str:
    """The upload's id; a gateway that is unavailable is asked again with the same bytes."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            answer = fleet.post(content, dataset="trades")
            if answer.status_code in (httpx.codes.OK, httpx.codes.ACCEPTED):
                return str(answer.json()["data"]["upload_id"])
        except httpx.TransportError as error:
            answer = error
        assert time.monotonic() < deadline, answer
        time.sleep(0.5)


def committed(fleet: Fleet, upload: str) -> str:
    """The version of the receipt once it is final."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            receipt = fleet.get("ingest-gateway", f"/v1/uploads/{upload}", wait="committed", timeout=20)
            found = receipt.json().get("data", {})
            if found.get("state") == "committed" and found.get("version"):
                return str(found["version"])
            assert found.get("state") not in ("failed", "cancelled"), found
        except httpx.TransportError as error:
            found = str(error)
        # Whole, with what it waits for.
        assert time.monotonic() < deadline, json.dumps(found)
        time.sleep(0.5)


def finished(fleet: Fleet, upload: str) -> dict[str, Any]:
    """The receipt as it stays: an upload is seen as committed just before its final receipt is written."""
    deadline = time.monotonic() + SECONDS
    while True:
        receipt: dict[str, Any] = fleet.data("ingest-gateway", f"/v1/uploads/{upload}")
        if receipt["finished_at"] is not None:
            return receipt
        assert time.monotonic() < deadline, receipt
        time.sleep(0.1)  # between looks at another process


def lines_of(fleet: Fleet, name: str, as_of: str) -> list[int]:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            answer = fleet.get("query-service", "/v1/trades", symbols=name, as_of=as_of, format="ndjson")
            if answer.status_code == httpx.codes.OK:
                return sorted(json.loads(line)["line"] for line in answer.text.splitlines())
        except httpx.TransportError as error:
            answer = error
        assert time.monotonic() < deadline, answer
        time.sleep(0.5)


def all_once(fleet: Fleet, uploads: dict[str, str], rows: int = ROWS) -> None:
    for name, upload in uploads.items():
        assert lines_of(fleet, name, committed(fleet, upload)) == list(range(2, rows + 2))


def test_a_service_that_dies_is_started_again_by_the_engine(composed: Stack) -> None:
    (container,) = composed.containers("query-service")
    before = composed.docker("inspect", "--format", "{{.State.StartedAt}}", container)
    composed.docker("exec", container, "python", "-c", DIE)
    deadline = time.monotonic() + SECONDS
    while composed.docker("inspect", "--format", "{{.State.StartedAt}}", container) == before:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    composed.wait_healthy("query-service")


def test_more_loaders_and_sinks_with_kills_among_them_lose_and_double_nothing(
    composed: Stack, fleet: Fleet, figures: list[str]
) -> None:
    composed.up("csv-loader", "iceberg-sink", scale={"csv-loader": 3, "iceberg-sink": 2})
    assert [len(composed.containers(name)) for name in ("csv-loader", "iceberg-sink")] == [3, 2]
    began = time.monotonic()
    uploads = {}
    for victim in ("csv-loader", "iceberg-sink", "ingest-gateway", "csv-loader"):
        name = symbol()
        uploads[name] = posted(fleet, file_of(name))
        composed.kill(victim)
    all_once(fleet, uploads)
    composed.wait_healthy("csv-loader", "iceberg-sink")
    figures.append(f"four uploads of {ROWS} rows under four kills: {time.monotonic() - began:.0f} s")
    composed.up("csv-loader", "iceberg-sink", scale={"csv-loader": 1, "iceberg-sink": 1})


@pytest.mark.parametrize("victim", [*DEPENDENCIES, "query-service", "replay-service"])
def test_a_kill_of_any_other_container_heals_without_loss(composed: Stack, fleet: Fleet, victim: str) -> None:
    name = symbol()
    upload = posted(fleet, file_of(name, 5_000))
    composed.kill(victim)
    later = symbol()
    uploads = {name: upload, later: posted(fleet, file_of(later, 5_000))}
    composed.wait_healthy(victim)
    all_once(fleet, uploads, 5_000)


def test_down_and_up_again_keep_all_data(composed: Stack) -> None:
    name = symbol()
    fleet = composed.fleet()
    upload = posted(fleet, file_of(name, 1_000))
    version = committed(fleet, upload)
    receipt = finished(fleet, upload)
    composed.compose("down", "--timeout=40")
    assert composed.containers("kafka") == []
    composed.up(*DEPENDENCIES, "init", *FLEET)
    fleet = composed.fleet()
    assert fleet.data("ingest-gateway", f"/v1/uploads/{upload}") == receipt
    assert lines_of(fleet, name, version) == list(range(2, 1_002))
    assert fleet.get("ingest-gateway", f"/v1/uploads/{upload}/content").content == file_of(name, 1_000)
    later = symbol()
    all_once(fleet, {later: posted(fleet, file_of(later, 1_000))}, 1_000)
