"""What `/v1/bars` answers, without Kafka: every parameter, every format, every refusal."""

import io
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import httpx
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from k2common.iceberg.catalogs.catalog import Catalog
from k2common.schemas.datasets import TRADES
from k2common.testing.rows import append_rows
from query_service.bars.bars import SCHEMA


def trades(*rows: tuple[str, str, str], **given: Any) -> list[dict[str, Any]]:
    """Trades of 11 March 2014 by their time, price and size."""
    return [
        {"ts_event": f"2014-03-11T{at}Z", "price": price, "size": size, **given} for at, price, size in rows
    ]


async def data(client: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/bars", params=parameters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def refused(client: httpx.AsyncClient, **parameters: Any) -> tuple[int, str, list[str]]:
    answer = await client.get("/v1/bars", params=parameters)
    problem = answer.json()
    return answer.status_code, problem["code"], [error.get("parameter") for error in problem["errors"]]


def picked(rows: Sequence[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


async def test_a_bar_has_every_column_and_exact_text(catalog: Catalog, client: httpx.AsyncClient) -> None:
    rows = trades(("01:00:01", "0.00012345", "46116860414"), ("01:00:31", "0.00012346", "1"))
    append_rows(catalog, TRADES, rows)
    answer = (await client.get("/v1/bars", params={"timeframe": "1Min", "symbols": "BHP,RIO"})).json()
    assert answer["data"] == [
        {
            "symbol": "BHP",
            "venue": "XASX",
            "source": "test",
            "asset_class": "equity",
            "currency": "AUD",
            "timeframe": "1Min",
            "ts_event": "2014-03-11T01:00:00.000000000Z",
            "ts_event_ns": "1394499600000000000",
            "ts_end_ns": "1394499660000000000",
            "open": "0.00012345",
            "high": "0.00012346",
            "low": "0.00012345",
            "close": "0.00012346",
            "volume": "46116860415",
            "vwap": "0.00012345",
            "twap": "0.00012345",
            "trade_count": 2,
        }
    ]
    meta = answer["meta"]
    assert (meta["version"], meta["row_count"], meta["unresolved"]) == ("trades@1", 1, ["RIO"])
    assert meta["left_out"] == {"rule": "off_market", "rows": 0, "conditions": []}


async def test_off_market_prints_are_left_out_unless_asked_for(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    append_rows(catalog, TRADES, trades(("01:00:01", "35", "10"), ("01:00:02", "36", "10"), conditions=["0"]))
    off = trades(("01:00:03", "42", "10"), conditions=["3", "X"], flags=32)
    append_rows(catalog, TRADES, off + trades(("01:00:04", "34", "10"), conditions=["25"]))

    async def highs(**given: str) -> tuple[str, str, int, list[str]]:
        answer = (await client.get("/v1/bars", params={"timeframe": "1Day", **given})).json()
        left_out = answer["meta"]["left_out"]
        return answer["data"][0]["high"], left_out["rule"], left_out["rows"], left_out["conditions"]

    assert await highs() == ("36", "off_market", 1, ["3", "X"])
    assert await highs(off_market="include") == ("42", "none", 0, [])
    assert await highs(include_conditions="3") == ("42", "conditions", 3, ["0", "25"])
    assert await highs(exclude_conditions="0,3") == ("34", "conditions", 3, ["0", "3", "X"])
    assert await highs(exclude_conditions="0", off_market="exclude") == (
        "34",
        "conditions",
        3,
        ["0", "3", "X"],
    )


async def test_sources_are_never_mixed(catalog: Catalog, client: httpx.AsyncClient) -> None:
    append_rows(catalog, TRADES, trades(("01:00:01", "35", "10"), source="a"))
    append_rows(catalog, TRADES, trades(("01:00:01", "36", "10"), source="b"))
    append_rows(catalog, TRADES, trades(("01:00:01", "7", "10"), source="b", symbol="RIO"))
    assert await refused(client, timeframe="1Day") == (422, "AMBIGUOUS_SOURCE", [])
    assert picked(await data(client, timeframe="1Day", symbols="RIO"), "source", "close") == [("b", "7")]
    found = await data(client, timeframe="1Day", source="a")
    assert picked(found, "symbol", "source", "close") == [("BHP", "a", "35")]


async def test_bars_of_trades_volume_and_money_begin_anew_each_day(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    rows = [
        {"ts_event": f"2014-03-{day}T01:00:0{n}Z", "price": str(n + 1), "size": "10.5", "sequence": n}
        for day in (11, 12)
        for n in range(5)
    ]
    append_rows(catalog, TRADES, rows[::-1])
    names = ("open", "close", "volume", "trade_count")
    by_count = picked(await data(client, timeframe="tick:2"), *names)
    assert by_count == [("1", "2", "21", 2), ("3", "4", "21", 2), ("5", "5", "10.5", 1)] * 2
    # What was traded before: 0, 10.5, 21, 31.5, 42.
    by_volume = picked(await data(client, timeframe="volume:10.5"), *names)
    assert by_volume == [(str(n), str(n), "10.5", 1) for n in range(1, 6)] * 2
    by_volume = picked(await data(client, timeframe="volume:20"), *names)
    assert by_volume == [("1", "2", "21", 2), ("3", "4", "21", 2), ("5", "5", "10.5", 1)] * 2
    # Money before: 0, 10.5, 31.5, 63, 105.
    by_money = picked(await data(client, timeframe="dollar:50"), *names)
    assert by_money == [("1", "3", "31.5", 3), ("4", "4", "10.5", 1), ("5", "5", "10.5", 1)] * 2
    first = (await data(client, timeframe="tick:2", limit=1))[0]
    assert (first["ts_event"], first["ts_end_ns"]) == (
        "2014-03-11T01:00:00.000000000Z",
        "1394499601000000000",
    )


async def test_pages_of_bars_meet(catalog: Catalog, client: httpx.AsyncClient) -> None:
    # All bars of a day begin at one time: their number alone tells them apart.
    rows = trades(*[("01:00:01", str(n), "1") for n in range(1, 30)])
    # Its money is past what the plain way adds up.
    rows += trades(("01:20:00", "99999", "99999999999"), symbol="BIG")
    append_rows(catalog, TRADES, rows + trades(("03:00:00", "5", "1"), symbol="RIO"))
    for given in ({"timeframe": "tick:1"}, {"timeframe": "7Min", "fill": "prev", "end": "2014-03-11T03:30Z"}):
        whole = await data(client, **given)
        url, found = f"/v1/bars?{httpx.QueryParams({**given, 'limit': 4})}", []
        while url:
            answer = await client.get(url)
            found += answer.json()["data"]
            url = answer.links.get("next", {}).get("url", "")
        assert found == whole
        assert len(found) > 4
    token = (await client.get("/v1/bars", params={"timeframe": "tick:1", "limit": 4})).json()
    other = {"timeframe": "tick:2", "page_token": token["next_page_token"]}
    assert await refused(client, **other) == (400, "INVALID_PARAMETER", ["page_token"])


async def test_pages_stay_on_their_version(catalog: Catalog, client: httpx.AsyncClient) -> None:
    append_rows(catalog, TRADES, trades(("01:00:01", "1", "1"), ("02:00:01", "2", "1")))
    first = (await client.get("/v1/bars", params={"timeframe": "1Hour", "limit": 1})).json()
    append_rows(catalog, TRADES, trades(("02:00:02", "9", "1")))
    rest = {"timeframe": "1Hour", "limit": 1, "page_token": first["next_page_token"]}
    assert picked(await data(client, **rest), "close") == [("2",)]


async def test_all_formats_hold_the_same_bars(catalog: Catalog, client: httpx.AsyncClient) -> None:
    append_rows(catalog, TRADES, trades(("01:00:01", "1.5", "10"), ("01:02:01", "2", "1"), currency=None))
    given = {"timeframe": "1Min", "fill": "null"}
    expected = await data(client, **given)
    answers = {
        form: await client.get("/v1/bars", params={**given, "format": form})
        for form in ("ndjson", "csv", "arrow", "parquet")
    }
    assert all(answer.headers["X-K2-Version"] == "trades@1" for answer in answers.values())
    told = (await client.get("/metrics")).text
    for form in answers:
        counted = f'k2_rows_streamed_total{{dataset="bars",format="{form}"}} {len(expected)}.0'
        assert counted in told
    assert [json.loads(line) for line in answers["ndjson"].text.splitlines()] == expected
    csv = pl.read_csv(io.BytesIO(answers["csv"].content), infer_schema=False).to_dicts()
    as_text = [{k: None if v is None else str(v) for k, v in row.items()} for row in expected]
    assert csv == as_text
    arrow = pa.ipc.open_stream(answers["arrow"].content).read_all()
    exact = {"ts_event": pa.timestamp("ns", "UTC")}
    assert arrow.schema.types == [exact.get(field.name, field.type) for field in SCHEMA]
    assert arrow.schema.names == SCHEMA.names
    assert arrow["close"].to_pylist() == [Decimal("1.5"), None, Decimal(2)]
    assert pq.read_table(io.BytesIO(answers["parquet"].content)).equals(arrow)
    body = (await client.post("/v1/bars/query", json=given)).json()
    assert body["data"] == expected


async def test_an_empty_answer_is_whole_in_every_format(catalog: Catalog, client: httpx.AsyncClient) -> None:
    for form in ("ndjson", "csv", "arrow", "parquet"):
        answer = await client.get("/v1/bars", params={"timeframe": "1Min", "format": form})
        assert answer.status_code == 200
        if form == "csv":
            assert answer.text == ",".join(SCHEMA.names) + "\n"
        if form == "arrow":
            assert pa.ipc.open_stream(answer.content).read_all().num_rows == 0
    assert await data(client, timeframe="1Min", fill="prev") == []


async def test_fields_choose_columns_in_their_order(catalog: Catalog, client: httpx.AsyncClient) -> None:
    append_rows(catalog, TRADES, trades(("01:00:01", "1.5", "10")))
    (bar,) = await data(client, timeframe="1Min", fields="close,symbol")
    assert list(bar.items()) == [("close", "1.5"), ("symbol", "BHP")]


async def test_sessions_are_the_venues(catalog: Catalog, client: httpx.AsyncClient) -> None:
    rows = [
        {"ts_event": f"2014-12-24T{at}Z", "price": str(n), "size": "1"}
        for n, at in enumerate(("02:59", "03:05", "03:20"), start=1)
    ]
    coins = [{**row, "venue": "BINANCE", "asset_class": "crypto", "symbol": "BTC"} for row in rows]
    append_rows(catalog, TRADES, rows + coins)
    # Christmas Eve: Sydney closes at 14:10.
    found = await data(client, timeframe="1Day", session="regular", align="venue")
    assert picked(found, "symbol", "ts_event", "trade_count") == [
        ("BHP", "2014-12-23T13:00:00.000000000Z", 2),
        ("BTC", "2014-12-24T00:00:00.000000000Z", 3),
    ]
    append_rows(catalog, TRADES, [{**rows[0], "venue": "NOWHERE"}])
    assert await refused(client, timeframe="1Day", session="regular") == (422, "CALENDAR_UNKNOWN", [])
    assert len(await data(client, timeframe="1Day")) == 3


async def test_venues_with_different_clocks_come_in_one_order(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    rows = [
        {"ts_event": f"2014-03-{day}T0{hour}:00:00Z", "price": str(hour), "size": "1", "venue": venue}
        for day in (11, 12, 13)
        for hour in (1, 5)
        for venue in ("XASX", "XNYS")
    ]
    append_rows(catalog, TRADES, rows)
    found = await data(client, timeframe="1Day", align="venue")
    keys = picked(found, "ts_event_ns", "venue")
    assert keys == sorted(keys)
    assert sum(row["trade_count"] for row in found) == 12
    paged = await data(client, timeframe="1Day", align="venue", limit=3)
    assert paged == found[:3]


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"timeframe": "1Fortnight"}, "timeframe"),
        ({"timeframe": "0Min"}, "timeframe"),
        ({"timeframe": "25Hour"}, "timeframe"),
        ({"timeframe": "tick:0"}, "timeframe"),
        ({"timeframe": "tick:1.5"}, "timeframe"),
        ({"timeframe": "1Min'; DROP TABLE x"}, "timeframe"),
        ({}, "timeframe"),
        ({"timeframe": "tick:5", "fill": "prev"}, "fill"),
        ({"timeframe": "1Min", "fields": "opne"}, "fields"),
        ({"timeframe": "1Min", "limit": "10001"}, "limit"),
        ({"timeframe": "1Min", "format": "xml"}, "format"),
        ({"timeframe": "1Min", "format": "csv", "page_token": "x"}, "page_token"),
        ({"timeframe": "1Min", "timezone": "Sydney"}, "timezone"),
        ({"timeframe": "1Min", "seshun": "all"}, "seshun"),
    ],
)
async def test_a_parameter_at_fault_is_named(
    client: httpx.AsyncClient, given: dict[str, str], parameter: str
) -> None:
    assert await refused(client, **given) == (400, "INVALID_PARAMETER", [parameter])
