"""Binance's files: every id is there once, nanoseconds and decimals are exact."""

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from k2local.testing import Fleet


def source(data: Path, name: str) -> tuple[bytes, list[dict[str, str]]]:
    content = (data / "binance-btcusdt-20240808" / name).read_bytes()
    return content, list(csv.DictReader(content.decode().splitlines()))


def loaded(fleet: Fleet, content: bytes, kind: str) -> list[dict[str, Any]]:
    receipt = fleet.upload(content, layout=f"binance-{kind}")
    answer = fleet.get(
        "query-service", f"/v1/{kind}", symbols="BTCUSDT", format="ndjson", as_of=receipt["version"]
    )
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(scope="module")
def files(data: Path) -> Path:
    return data


def test_trades_equal_the_file(fleet: Fleet, files: Path) -> None:
    content, expected = source(files, "trades.csv")
    found = {row["trade_id"]: row for row in loaded(fleet, content, "trades")}
    assert len(found) == len(expected) == 9_757
    assert found.keys() == {row["trade_id"] for row in expected}
    for row in expected:
        stored = found[row["trade_id"]]
        assert (stored["ts_event_ns"], stored["ts_recv_ns"]) == (row["ts_event"], row["ts_recv"])
        assert (Decimal(stored["price"]), Decimal(stored["size"])) == (
            Decimal(row["price"]),
            Decimal(row["size"]),
        )
        assert stored["side"] == row["side"]
        # Received before it happened: the clocks disagree, which is marked and kept.
        assert stored["flags"] == 2


def test_quotes_equal_the_file(fleet: Fleet, files: Path) -> None:
    content, expected = source(files, "quotes.csv")
    found = loaded(fleet, content, "quotes")
    assert len(found) == len(expected) == 28_040
    by_line = {row["line"]: row for row in found}
    for line, row in enumerate(expected, start=2):
        stored = by_line[line]
        assert stored["quote_id"] == row["update_id"]
        assert stored["ts_event_ns"] == stored["ts_recv_ns"] == row["ts_recv"]
        for name in ("bid_price", "bid_size", "ask_price", "ask_size"):
            assert Decimal(stored[name]) == Decimal(row[name])
        assert stored["flags"] & 1
