"""Files as the Australian exchange sends them: the golden values, exact, through HTTP alone."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from k2local.testing import Fleet

TRADES = {
    "BHP": ("7078", 91_631, 37_266_035, "1347983097.800"),
    "DVN": ("7181", 232, 449_097, "298229.5275"),
    "MWR": ("3153", 11, 32_267, "37436.70"),
}
QUOTES = {
    "BHP": ("7078", 77_849, 393_268_941, 7_339_516_607),
    "DVN": ("7181", 549, 5_276_964, 1_717_558),
    "MWR": ("3153", 60, 564_280, 241_403),
}
REPEATED_BHP_TRADES = 3_193


def rows(fleet: Fleet, path: str, **parameters: Any) -> list[dict[str, Any]]:
    answer = fleet.get("query-service", path, format="ndjson", **parameters)
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(scope="module")
def asx(fleet: Fleet, data: Path) -> dict[str, str]:
    """All files, loaded; the upload of each."""
    folder = data / "asx-2014-03"
    company_info = (folder / "reference" / "company_info.csv").read_bytes()
    reference = fleet.upload(company_info, layout="asx-company-info", filename="company_info.csv")
    assert reference["state"] == "committed"
    posted = {}
    for kind, golden in (("trades", TRADES), ("quotes", QUOTES)):
        for instrument, *_ in golden.values():
            name = f"{instrument}.csv"
            content = (folder / kind / name).read_bytes()
            answer = fleet.post(content, layout=f"asx-{kind}", filename=name)
            assert answer.status_code == 202
            posted[f"{kind}/{name}"] = answer.json()["data"]["upload_id"]
    return posted


@pytest.mark.parametrize("symbol", TRADES)
def test_trades_have_the_golden_values(fleet: Fleet, asx: dict[str, str], symbol: str) -> None:
    instrument, count, volume, notional = TRADES[symbol]
    receipt = fleet.receipt(asx[f"trades/{instrument}.csv"])
    assert (receipt["state"], receipt["rows"]["committed"]) == ("committed", count)
    found = rows(fleet, "/v1/trades", symbols=symbol, as_of=receipt["version"])
    assert len(found) == count
    assert sum(Decimal(row["size"]) for row in found) == volume
    assert sum(Decimal(row["price"]) * Decimal(row["size"]) for row in found) == Decimal(notional)
    assert sorted(row["line"] for row in found) == list(range(1, count + 1))


@pytest.mark.parametrize("form", ["json", "csv", "arrow", "parquet"])
def test_every_format_has_the_golden_values(fleet: Fleet, asx: dict[str, str], form: str) -> None:
    for symbol, (instrument, count, volume, notional) in TRADES.items():
        as_of = fleet.receipt(asx[f"trades/{instrument}.csv"])["version"]
        found = in_format(fleet, form, symbols=symbol, as_of=as_of)
        assert len(found) == count
        assert sum(size for _, size, _ in found) == volume
        assert sum(price * size for price, size, _ in found) == Decimal(notional)
        ordered = rows(fleet, "/v1/trades", symbols=symbol, as_of=as_of)
        assert [line for *_, line in found] == [row["line"] for row in ordered]


def in_format(fleet: Fleet, form: str, **given: str) -> list[tuple[Decimal, Decimal, int]]:
    """Price, size and line of every trade, through one format."""
    fields = {"fields": "price,size,line", **given}
    if form == "json":
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while token is not None:
            page = fleet.get("query-service", "/v1/trades", limit=10_000, **fields, **token).json()
            found += page["data"]
            token = page["next_page_token"] and {"page_token": page["next_page_token"]}
        return [(Decimal(row["price"]), Decimal(row["size"]), row["line"]) for row in found]
    content = fleet.get("query-service", "/v1/trades", format=form, **fields).content
    if form == "csv":
        lines = csv.DictReader(io.StringIO(content.decode()))
        return [(Decimal(row["price"]), Decimal(row["size"]), int(row["line"])) for row in lines]
    source = pa.BufferReader(content)
    table = pq.read_table(source) if form == "parquet" else pa.ipc.open_stream(source).read_all()
    return [(row["price"], row["size"], row["line"]) for row in table.to_pylist()]


@pytest.mark.parametrize("symbol", QUOTES)
def test_quotes_have_the_golden_values(fleet: Fleet, asx: dict[str, str], symbol: str) -> None:
    instrument, count, bids, asks = QUOTES[symbol]
    receipt = fleet.receipt(asx[f"quotes/{instrument}.csv"])
    found = rows(fleet, "/v1/quotes", symbols=symbol, as_of=receipt["version"])
    assert len(found) == count == receipt["rows"]["committed"]
    assert sum(Decimal(row["bid_size"] or 0) for row in found) == bids
    assert sum(Decimal(row["ask_size"] or 0) for row in found) == asks


def test_rows_that_are_equal_in_every_column_stay_separate(fleet: Fleet, asx: dict[str, str]) -> None:
    fleet.receipt(asx["trades/7078.csv"])
    found = rows(fleet, "/v1/trades", symbols="BHP")
    contents = {json.dumps({k: v for k, v in row.items() if k != "line"}, sort_keys=True) for row in found}
    assert len(found) - len(contents) == REPEATED_BHP_TRADES


def test_posting_again_changes_nothing(fleet: Fleet, asx: dict[str, str], data: Path) -> None:
    first = fleet.receipt(asx["trades/7078.csv"])
    before = fleet.data("query-service", "/v1/versions", table="market.trades", limit=1)
    content = (data / "asx-2014-03" / "trades" / "7078.csv").read_bytes()
    again = fleet.post(content, layout="asx-trades", filename="7078.csv")
    assert again.status_code == 200
    assert again.json()["data"] == first
    assert fleet.data("query-service", "/v1/versions", table="market.trades", limit=1) == before


def test_the_summary_of_a_day_is_exact(fleet: Fleet, asx: dict[str, str]) -> None:
    for upload in asx.values():
        fleet.receipt(upload)
    whole = fleet.data("query-service", "/v1/summary/BHP/2014-03-11", off_market="include")
    prices = [whole[name] for name in ("open", "high", "low", "close")]
    assert prices == ["40", "42", "35.772", "36.124"]
    assert (whole["volume"], whole["trades"]) == ("8919376", 21_681)
    market = fleet.data(
        "query-service",
        "/v1/summary/BHP/2014-03-11",
        include_conditions="0",
        start="2014-03-11T10:00:00",
        end="2014-03-11T17:00:00",
        timezone="Australia/Sydney",
    )
    prices = [market[name] for name in ("open", "high", "low", "close")]
    assert prices == ["35.94", "36.45", "35.84", "35.95"]
    assert (market["volume"], market["trades"]) == ("5554157", 18_218)
    default = fleet.data("query-service", "/v1/summary/BHP/2014-03-11")
    assert (default["high"], default["low"], default["trades"]) == ("36.45", "35.84", 21_653)
    (bar,) = fleet.data(
        "query-service",
        "/v1/bars",
        symbols="BHP",
        timeframe="1Day",
        trading_date="2014-03-11",
        timezone="Australia/Sydney",
        off_market="include",
    )
    assert {name: bar[name] for name in ("open", "high", "low", "close", "volume", "vwap")} == {
        name: whole[name] for name in ("open", "high", "low", "close", "volume", "vwap")
    }


def test_off_market_prints_are_marked(fleet: Fleet, asx: dict[str, str]) -> None:
    fleet.receipt(asx["trades/7078.csv"])
    found = rows(fleet, "/v1/trades", symbols="BHP", trading_date="2014-03-11")
    on_market = [Decimal(row["price"]) for row in found if not row["flags"] & 32]
    assert max(on_market) < 42


def test_instruments_and_symbols_are_listed(fleet: Fleet, asx: dict[str, str]) -> None:
    for upload in asx.values():
        fleet.receipt(upload)
    instruments = fleet.data("query-service", "/v1/instruments", symbols="BHP")
    assert {(row["instrument_id"], row["isin"]) for row in instruments} == {("7078", "AU000000BHP4")}
    symbols = {row["symbol"]: row["rows"] for row in fleet.data("query-service", "/v1/symbols")}
    assert {symbol: symbols[symbol] for symbol in TRADES} == {s: golden[1] for s, golden in TRADES.items()}
