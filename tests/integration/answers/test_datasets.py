"""The catalogue says what there is in a version, and what a query of it would touch."""

from __future__ import annotations

import pytest
from k2common.schemas.datasets import MARKET_DATASETS, TABLES

from tests.integration.answers.house import EVENT_NS, House


async def test_every_dataset_is_listed_with_its_version(market: House) -> None:
    found = {entry["dataset"]: entry for entry in await market.data("/v1/datasets")}
    assert set(found) == set(MARKET_DATASETS)
    trades = found["trades"]
    assert (trades["version"], trades["files"], trades["rows"], trades["rows_exact"]) == (4, 2, 8, True)
    assert trades["first_day"] == trades["last_day"] == "2026-03-02"
    assert trades["description"]
    old = await market.data("/v1/datasets", as_of="trades@1")
    entry = {entry["dataset"]: entry for entry in old}
    assert (entry["trades"]["rows"], entry["quotes"]["version"]) == (7, None)


async def test_the_range_is_that_of_the_rows(market: House) -> None:
    found = await market.data("/v1/datasets/trades/range")
    assert (found["rows"], found["symbols"]) == (8, 2)
    assert found["ts_event_ns"] == {
        "first": "2026-03-02T09:30:00.000000000Z",
        "last": "2026-03-02T09:30:01.000000000Z",
    }
    assert found["trading_date"] == {"first": "2026-03-02", "last": "2026-03-02"}
    assert (await market.data("/v1/datasets/trades/range", symbols="XYZ"))["rows"] == 1
    assert (await market.data("/v1/datasets/trades/range", as_of="trades@2"))["rows"] == 10
    assert (await market.data("/v1/datasets/corporate_actions/range"))["ex_date"] is not None


async def test_a_dataset_without_a_version_has_no_range(house: House) -> None:
    found = await house.data("/v1/datasets/quotes/range")
    assert (found["rows"], found["ts_event_ns"]) == (0, None)
    assert await house.data("/v1/datasets/quotes/fields") == []
    assert (await house.data("/v1/datasets/quotes/estimate"))["files"] == 0


async def test_fields_are_documented(market: House) -> None:
    found = {field["name"]: field for field in await market.data("/v1/datasets/trades/fields")}
    assert found["price"]["type"] == "decimal(28, 12)"
    assert found["sequence"]["nullable"]
    assert all(field["doc"] for field in found.values())
    assert "kafka_offset" not in found


async def test_an_estimate_counts_row_groups_that_may_hold_the_rows(house: House) -> None:
    symbols = [f"S{n // 40_000}" for n in range(80_000)]
    house.add("trades", [{"symbol": symbol, "ts_event_ns": EVENT_NS} for symbol in symbols])
    path = "/v1/datasets/trades/estimate"
    whole = await house.data(path)
    assert (whole["files"], whole["row_groups"], whole["rows"]) == (1, 3, 80_000)
    one = await house.data(path, symbols="S1")
    assert (one["row_groups"], one["rows"], one["basis"]) == (2, 80_000 - 32_768, "row_groups")
    assert 0 < one["bytes"] < whole["bytes"]
    assert (await house.data(path, symbols="ZZZ"))["rows"] == 0
    assert (await house.data(path, end="2026-03-02"))["rows"] == 0
    assert (await house.data(path, start="2026-03-02", end="2026-03-03"))["rows"] == 80_000


@pytest.mark.parametrize("path", ["range", "fields", "estimate"])
async def test_an_unknown_dataset_is_refused(house: House, path: str) -> None:
    answer = await house.get(f"/v1/datasets/orders/{path}")
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMETER")
    answer = await house.get(f"/v1/datasets/trades/{path}", as_off="x")
    assert answer.json()["errors"][0]["code"] == "UNKNOWN_PARAMETER"


async def test_versions_and_snapshots_are_those_of_every_versioned_table(market: House) -> None:
    for dataset in TABLES.values():
        for path in ("/v1/versions", "/v1/snapshots"):
            answer = await market.get(path, table=dataset.table)
            assert answer.status_code == (200 if dataset.versioned else 400), answer.text
    listed = await market.data("/v1/versions", table="market.trades")
    assert [entry["number"] for entry in listed] == [4, 3, 2, 1]
    assert listed[0]["hidden"] == {"U2": "retracted"}
    unknown = await market.get("/v1/versions", table="market.orders")
    assert unknown.json()["errors"][0]["parameter"] == "table"
