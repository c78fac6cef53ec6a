"""Each trade has the quote that a slow search finds, wherever the rows lie."""

import io
import random
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import polars as pl
import pytest
from k2common.iceberg.catalogs.catalog import Catalog
from k2common.schemas.datasets import QUOTES, TRADES
from k2common.testing.rows import append_rows

PATH = "/v1/joins/trades-quotes"
START = 1_394_496_000_000_000_000
DAY = 86_400 * 10**9


def generated(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Trades and quotes of two symbols over three days, most of whose times are shared by several rows."""
    rng = random.Random(seed)

    def rows(count: int) -> list[dict[str, Any]]:
        return [
            {
                "ts_event": START + rng.randrange(3) * DAY + rng.randrange(40) * 10**9,
                "symbol": rng.choice(["BHP", "RIO"]),
                "sequence": rng.choice([None, rng.randrange(9)]),
                "upload_id": rng.choice(["U1", "U2"]),
                "line": line,
            }
            for line in range(1, count + 1)
        ]

    trades = [{**row, "price": str(row["line"]), "size": "1"} for row in rows(150)]
    quotes = [
        {**row, "bid_price": rng.choice([None, str(row["line"])]), "ask_size": "5"} for row in rows(120)
    ]
    return trades, quotes


def order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    sequence = row["sequence"]
    return row["ts_event"], sequence is None, sequence or 0, row["symbol"], row["upload_id"], row["line"]


def slow(
    trades: Sequence[Mapping[str, Any]], quotes: Sequence[Mapping[str, Any]], match: str, tolerance: int
) -> list[tuple[Any, ...]]:
    found = []
    for trade in sorted(trades, key=order):
        last = None
        for quote in sorted(quotes, key=order):
            age = trade["ts_event"] - quote["ts_event"]
            if quote["symbol"] == trade["symbol"] and (age > 0 or (age == 0 and match == "at_or_before")):
                last = quote
        if last is None or trade["ts_event"] - last["ts_event"] > tolerance:
            found.append((trade["line"], None, None, None))
        else:
            age = trade["ts_event"] - last["ts_event"]
            found.append((trade["line"], last["line"], last["bid_price"], str(age)))
    return found


async def joined(client: httpx.AsyncClient, **parameters: Any) -> list[tuple[Any, ...]]:
    """All pages."""
    url, found = f"{PATH}?{httpx.QueryParams(parameters)}", []
    while url:
        answer = await client.get(url)
        assert answer.status_code == 200, answer.text
        found += answer.json()["data"]
        url = answer.links.get("next", {}).get("url", "")
    return [(row["line"], row["quote_line"], row["bid_price"], row["quote_age_ns"]) for row in found]


@pytest.mark.parametrize("match", ["before", "at_or_before"])
async def test_each_trade_has_its_quote(catalog: Catalog, client: httpx.AsyncClient, match: str) -> None:
    trades, quotes = generated(1)
    append_rows(catalog, TRADES, trades)
    append_rows(catalog, QUOTES, quotes)
    for tolerance, ns in (("1s", 10**9), ("168h", 7 * DAY)):
        expected = slow(trades, quotes, match, ns)
        for limit in (1_000, 40):
            assert await joined(client, match=match, tolerance=tolerance, limit=limit) == expected


async def test_the_join_does_not_depend_on_where_rows_lie(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    trades, quotes = generated(2)
    shuffled_trades, shuffled_quotes = list(trades), list(quotes)
    random.Random(3).shuffle(shuffled_trades)
    random.Random(4).shuffle(shuffled_quotes)
    for first in range(0, 150, 30):
        append_rows(catalog, TRADES, shuffled_trades[first : first + 30])
        append_rows(catalog, QUOTES, shuffled_quotes[first : first + 30])
    assert await joined(client) == slow(trades, quotes, "at_or_before", 3_600 * 10**9)


async def test_streams_hold_the_same_rows(catalog: Catalog, client: httpx.AsyncClient) -> None:
    trades, quotes = generated(5)
    append_rows(catalog, TRADES, trades)
    none = (await client.get(PATH, params={"format": "arrow"})).content
    assert pl.read_ipc_stream(io.BytesIO(none))["quote_line"].null_count() == 150
    append_rows(catalog, QUOTES, quotes)
    expected = [(line, quote) for line, quote, _, _ in slow(trades, quotes, "at_or_before", 3_600 * 10**9)]
    for form, read in (("arrow", pl.read_ipc_stream), ("parquet", pl.read_parquet), ("csv", pl.read_csv)):
        given = {"format": form, "fields": "line,quote_line"}
        content = (await client.get(PATH, params=given)).content
        assert read(io.BytesIO(content)).rows() == expected


async def test_quotes_of_two_sources_are_not_mixed(catalog: Catalog, client: httpx.AsyncClient) -> None:
    append_rows(catalog, TRADES, [{"ts_event": START, "price": "1", "size": "1", "source": "t"}])
    quotes = [
        {"ts_event": START, "bid_price": price, "source": name} for name, price in (("a", "1"), ("b", "2"))
    ]
    append_rows(catalog, QUOTES, quotes)
    refused = await client.get(PATH)
    assert (refused.status_code, refused.json()["code"]) == (422, "AMBIGUOUS_SOURCE")
    assert await joined(client, quote_source="b") == [(1, 2, "2", "0")]
    chosen = {"source": "t", "quote_source": "a", "start": str(START), "end": str(START + 1)}
    assert await joined(client, **chosen) == [(1, 1, "1", "0")]
    named = (await client.get(PATH, params={"symbols": "BHP,X", "quote_source": "a"})).json()["meta"]
    assert (named["unresolved"], named["tolerance_ns"]) == (["X"], "3600000000000")


@pytest.mark.parametrize("tolerance", ["1", "-1s", "169h", "1.5s", "s", "99999999999999s"])
async def test_a_tolerance_out_of_bounds_is_refused(client: httpx.AsyncClient, tolerance: str) -> None:
    refused = await client.get(PATH, params={"tolerance": tolerance})
    assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (400, "tolerance")
