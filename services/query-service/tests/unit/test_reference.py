"""Reference data by name and date, and the summary of a date, without Kafka."""

import io
from datetime import date
from typing import Any

import httpx
import polars as pl
import pytest
from k2common.iceberg.catalogs.catalog import Catalog
from k2common.schemas.datasets import CORPORATE_ACTIONS, INSTRUMENTS, QUOTES, TRADES
from k2common.testing.rows import append_rows

INSTRUMENT_ROWS = [
    {"symbol": "BHP", "instrument_id": "7078", "isin": "AU1", "valid_from": date(2008, 5, 7)},
    {
        "symbol": "OLD",
        "instrument_id": "7181",
        "isin": "AU2",
        "valid_from": date(2000, 1, 1),
        "valid_to": date(2014, 3, 31),
    },
    {"symbol": "NEW", "instrument_id": "7181", "isin": "AU2", "valid_from": date(2014, 4, 1)},
    # The symbol is given to another company.
    {"symbol": "OLD", "instrument_id": "9", "isin": "AU9", "valid_from": date(2014, 5, 1)},
]


async def answer(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    given = await client.get(path, params=parameters)
    assert given.status_code == 200, given.text
    return given.json()


async def names(client: httpx.AsyncClient, path: str, *columns: str, **parameters: Any) -> list[Any]:
    found = await answer(client, path, **parameters)
    return [tuple(row[name] for name in columns) for row in found["data"]]


async def test_instruments_are_those_of_the_date(catalog: Catalog, client: httpx.AsyncClient) -> None:
    append_rows(catalog, INSTRUMENTS, INSTRUMENT_ROWS)
    found = await names(client, "/v1/instruments", "symbol", "instrument_id")
    assert found == [("BHP", "7078"), ("NEW", "7181"), ("OLD", "7181"), ("OLD", "9")]
    on_last_day = await names(client, "/v1/instruments", "symbol", "instrument_id", date="2014-03-31")
    assert on_last_day == [("BHP", "7078"), ("OLD", "7181")]
    assert await names(client, "/v1/instruments", "symbol", date="2014-04-01") == [("BHP",), ("NEW",)]
    assert await names(client, "/v1/instruments", "symbol", instrument_ids="7181,9", date="2014-05-01") == [
        ("NEW",),
        ("OLD",),
    ]
    assert await names(client, "/v1/instruments", "symbol", isins="AU1", venues="XASX") == [("BHP",)]
    assert await names(client, "/v1/instruments", "symbol", venues="XNYS") == []
    assert (await answer(client, "/v1/instruments", symbols="BHP,X"))["meta"]["unresolved"] == ["X"]


async def test_names_lead_to_one_another_by_date(catalog: Catalog, client: httpx.AsyncClient) -> None:
    append_rows(catalog, INSTRUMENTS, INSTRUMENT_ROWS)
    asked = {"symbols": "OLD,BHP,NIX", "instrument_ids": "7181", "isins": "AU2"}
    found = await answer(client, "/v1/symbology/resolve", **asked, date="2014-03-11")
    columns = ("asked_as", "asked", "symbol", "instrument_id", "isin")
    assert [tuple(row[name] for name in columns) for row in found["data"]] == [
        ("instrument_id", "7181", "OLD", "7181", "AU2"),
        ("isin", "AU2", "OLD", "7181", "AU2"),
        ("symbol", "BHP", "BHP", "7078", "AU1"),
        ("symbol", "OLD", "OLD", "7181", "AU2"),
    ]
    assert found["meta"]["unresolved"] == ["NIX"]
    ever = await names(client, "/v1/symbology/resolve", "symbol", "valid_from", "valid_to", isins="AU2")
    assert ever == [("NEW", "2014-04-01", None), ("OLD", "2000-01-01", "2014-03-31")]
    refused = await client.get("/v1/symbology/resolve", params={"date": "2014-03-11"})
    assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (400, "symbols")


async def test_actions_are_by_ex_date_and_kind(catalog: Catalog, client: httpx.AsyncClient) -> None:
    actions = [
        {"kind": kind, "ex_date": date(2014, 3, day), "amount": "0.59", "attributes": [("record", "x")]}
        for day, kind in ((3, "dividend"), (5, "split"), (7, "dividend"))
    ]
    append_rows(catalog, CORPORATE_ACTIONS, actions)
    path = "/v1/corporate-actions"
    found = await names(client, path, "ex_date", "kind", "amount", "attributes")
    assert found[0] == ("2014-03-03", "dividend", "0.59", {"record": "x"})
    assert len(found) == 3
    assert await names(client, path, "ex_date", kinds="split") == [("2014-03-05",)]
    assert await names(client, path, "ex_date", start="2014-03-05", end="2014-03-07") == [("2014-03-05",)]
    backwards = {"start": "2015-01-01", "end": "2014-01-01"}
    for given, parameter in (({"kinds": "gift"}, "kinds"), (backwards, "end")):
        refused = await client.get(path, params=given)
        assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (400, parameter)


async def test_symbols_have_their_dates_and_rows(catalog: Catalog, client: httpx.AsyncClient) -> None:
    rows = [
        {"ts_event": f"2014-03-{day}T01:00Z", "symbol": symbol, "price": "1", "size": "1"}
        for day, symbol in ((11, "BHP"), (12, "BHP"), (12, "RIO"))
    ]
    append_rows(catalog, TRADES, rows)
    columns = ("symbol", "venue", "first_date", "last_date", "rows")
    found = await names(client, "/v1/symbols", *columns)
    assert found == [
        ("BHP", "XASX", "2014-03-11", "2014-03-12", 2),
        ("RIO", "XASX", "2014-03-12", "2014-03-12", 1),
    ]
    assert await names(client, "/v1/symbols", "symbol", dataset="quotes") == []
    assert await names(client, "/v1/symbols", "symbol", symbols="RIO") == [("RIO",)]


async def test_lists_come_in_pages_and_in_every_format(catalog: Catalog, client: httpx.AsyncClient) -> None:
    append_rows(catalog, INSTRUMENTS, INSTRUMENT_ROWS)
    whole = (await answer(client, "/v1/instruments"))["data"]
    url, found = "/v1/instruments?limit=1", []
    while url:
        page = await client.get(url)
        found += page.json()["data"]
        url = page.links.get("next", {}).get("url", "")
    assert found == whole
    text = (await client.get("/v1/instruments", params={"format": "csv", "fields": "symbol,isin"})).content
    expected = [{name: row[name] for name in ("symbol", "isin")} for row in whole]
    assert pl.read_csv(io.BytesIO(text)).to_dicts() == expected
    parquet = await client.get("/v1/symbology/resolve", params={"isins": "AU2", "format": "parquet"})
    assert pl.read_parquet(io.BytesIO(parquet.content))["symbol"].to_list() == ["NEW", "OLD"]
    empty = await client.get("/v1/corporate-actions", params={"format": "arrow"})
    assert pl.read_ipc_stream(io.BytesIO(empty.content)).height == 0


async def test_an_unchanged_answer_is_not_sent_again(catalog: Catalog, client: httpx.AsyncClient) -> None:
    append_rows(catalog, INSTRUMENTS, INSTRUMENT_ROWS)
    for path in ("/v1/instruments", "/v1/summary/BHP/2014-03-11", "/v1/bars?timeframe=1Day"):
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert again.status_code == 304


async def test_the_summary_leaves_off_market_prints_out(catalog: Catalog, client: httpx.AsyncClient) -> None:
    rows = [
        {"ts_event": "2014-03-11T01:00:01Z", "price": "35", "size": "10", "conditions": ["0"]},
        {"ts_event": "2014-03-11T01:00:02Z", "price": "36", "size": "20", "conditions": ["0"]},
        {"ts_event": "2014-03-11T01:00:03Z", "price": "42", "size": "70", "conditions": ["3"], "flags": 32},
    ]
    append_rows(catalog, TRADES, rows)
    quotes = [
        {"ts_event": "2014-03-11T01:00:01Z", "bid_price": "35", "ask_price": "36"},
        {"ts_event": "2014-03-11T01:00:02Z", "bid_price": "37", "ask_price": "36"},
        {"ts_event": "2014-03-11T01:00:03Z", "bid_price": "35"},
    ]
    append_rows(catalog, QUOTES, quotes)
    path = "/v1/summary/BHP/2014-03-11"
    found = await answer(client, path)
    figures = ("open", "high", "low", "close", "volume", "notional", "vwap", "trades", "venues")
    assert [found["data"][name] for name in figures] == [
        *("35", "36", "35", "36", "30", "1070", "35.666666666667"),
        *(2, ["XASX"]),
    ]
    assert found["meta"]["left_out"] == {"rule": "off_market", "rows": 1, "conditions": ["3"]}
    book = found["data"]["quotes"]
    assert (book["count"], book["two_sided"], book["crossed"], book["mean_spread"]) == (3, 2, 1, "1")
    whole = await answer(client, path, off_market="include")
    assert (whole["data"]["high"], whole["meta"]["left_out"]["rows"]) == ("42", 0)
    by_condition = await answer(client, path, exclude_conditions="0")
    assert (by_condition["data"]["low"], by_condition["meta"]["left_out"]["conditions"]) == ("42", ["0"])
    nothing = await answer(client, "/v1/summary/RIO/2014-03-11")
    assert (nothing["data"]["open"], nothing["data"]["volume"]) == (None, "0")


@pytest.mark.parametrize("dataset", [TRADES, QUOTES])
async def test_a_summary_of_two_sources_is_refused(
    catalog: Catalog, client: httpx.AsyncClient, dataset: Any
) -> None:
    for source in ("a", "b"):
        row = {"ts_event": "2014-03-11T01:00:01Z", "price": "35", "size": "1", "source": source}
        append_rows(catalog, dataset, [row])
    path = "/v1/summary/BHP/2014-03-11"
    refused = await client.get(path)
    assert (refused.status_code, refused.json()["code"]) == (422, "AMBIGUOUS_SOURCE")
    assert (await client.get(path, params={"source": "a"})).status_code == 200


async def test_the_notional_of_a_summary_has_no_end(catalog: Catalog, client: httpx.AsyncClient) -> None:
    row = {"ts_event": "2014-03-11T01:00:01Z", "price": "9000000000.000000000001", "size": "9000000000.5"}
    append_rows(catalog, TRADES, [row, row])
    found = (await answer(client, "/v1/summary/BHP/2014-03-11"))["data"]
    assert found["notional"] == "162000000009000000000.0180000000010"[:-1]
    assert found["vwap"] == "9000000000.000000000001"
