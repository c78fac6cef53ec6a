"""Whatever is killed while an upload is on its way, each of its rows is there once."""

import time
from collections import Counter
from typing import Any

import pytest
from k2local.testing import Fleet

ROWS = 200_000
ROUNDS = 3
HEADER = "ts_event_ns,symbol,venue,price,size,trade_id,remark\n"
REMARK = "x" * 150
START = 1_700_000_000_000_000_000


def content(rows: int, *, first: int = 0) -> bytes:
    lines = (
        f"{START + n},S{n % 50},XCHAOS,{n % 1000}.{n % 100:02},{1 + n % 9},{first + n},{REMARK}"
        for n in range(rows)
    )
    return (HEADER + "\n".join(lines) + "\n").encode()


@pytest.mark.timeout(600)
def test_each_row_is_there_once_after_eight_kills_and_not_before_its_version(fleet: Fleet) -> None:
    before = fleet.upload(content(1_000), dataset="trades", source="before")
    answer = fleet.post(content(ROWS, first=1_000), dataset="trades", source="chaos")
    assert answer.status_code == 202
    upload = answer.json()["data"]["upload_id"]
    for _ in range(2):
        fleet.kill("ingest-gateway")
        fleet.wait_ready("ingest-gateway")
    read = 0
    for _ in range(ROUNDS):
        read = progressed(fleet, upload, past=read)
        fleet.kill("csv-loader")
        fleet.kill("iceberg-sink")
    assert read < ROWS, "the last kills came too late to hit the upload"

    receipt = fleet.receipt(upload)
    assert receipt["state"] == "committed"
    counts = receipt["rows"]
    assert (counts["read"], counts["committed"], counts["rejected"]) == (ROWS, ROWS, 0)

    # The head may be seen a moment later than the receipt; the version that it names is there.
    assert lines_of(fleet, "chaos", receipt["version"]) == Counter(range(2, ROWS + 2))
    # More commits, until the snapshot of the version before is gone.
    for n in range(5):
        last = fleet.upload(content(100, first=10**6 + n), dataset="trades", source=f"after-{n}")
    live = {entry["version"] for entry in fleet.data("query-service", "/v1/snapshots", table="market.trades")}
    assert before["version"] not in live
    assert lines_of(fleet, "chaos", before["version"]) == Counter()
    assert lines_of(fleet, "before", before["version"]) == Counter(range(2, 1_002))
    assert_marks_are_passed(fleet, last)


def progressed(fleet: Fleet, upload: str, *, past: int) -> int:
    """The rows read as soon as they are more than `past`: the loader is in the middle of its work."""
    deadline = time.monotonic() + 60
    while (read := fleet.data("ingest-gateway", f"/v1/uploads/{upload}")["rows"]["read"]) <= past:
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.05)
    return int(read)


def assert_marks_are_passed(fleet: Fleet, receipt: dict[str, Any]) -> None:
    """An idle table's offsets go past the mark that ends a transaction, so that retention cannot."""
    ends = {o["partition"]: o["end"] for o in receipt["offsets"] if o["topic"] == "market.trades.v1"}
    deadline = time.monotonic() + 60
    while True:
        newest = fleet.data("query-service", "/v1/versions", table="market.trades", limit=1)[0]
        if all(newest["offsets"][str(partition)] > end for partition, end in ends.items()):
            return
        assert time.monotonic() < deadline, (newest, ends)
        time.sleep(0.2)


def lines_of(fleet: Fleet, source: str, as_of: str) -> Counter[int]:
    answer = fleet.get("query-service", "/v1/trades", source=source, format="csv", as_of=as_of)
    assert answer.status_code == 200, answer.text
    head, *rows = answer.text.splitlines()
    at = head.split(",").index("line") - len(head.split(","))
    return Counter(int(row.rsplit(",", -at)[at]) for row in rows)
