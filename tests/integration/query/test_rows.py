"""Trades and quotes over HTTP: the same rows in every format, exact filters, answers that can be kept."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from k2common.domain.time import parse_time
from k2common.iceberg.catalogs.catalog import Catalog
from k2common.schemas.datasets import TRADES
from k2common.settings.engine import EngineSettings
from k2common.testing.generator import trades_csv
from k2common.testing.iceberg import START_US
from k2common.testing.ticks import append, rows_of

from tests.integration.query.conftest import empty
from tests.integration.query.serving import client, serving

KEY = ("ts_event_ns", "sequence", "venue", "symbol", "upload_id", "line")
SOME = (
    "venue,symbol,trading_date,ts_event,ts_event_ns,ts_recv_ns,sequence,upload_id,line,price,size,side,"
    "conditions"
)


@pytest.fixture
async def http(catalog: Catalog) -> AsyncIterator[httpx.AsyncClient]:
    with serving(catalog) as app:
        async with client(app) as opened:
            yield opened


async def rows(http: httpx.AsyncClient, path: str = "/v1/trades", **given: Any) -> list[dict[str, Any]]:
    answer = await http.get(path, params={"format": "ndjson", **given})
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def place(row: dict[str, Any]) -> tuple[Any, ...]:
    sequence = row["sequence"]
    rest = (row["venue"], row["symbol"], row["upload_id"], row["line"])
    return (int(row["ts_event_ns"]), sequence is None, int(sequence or 0), *rest)


async def test_rows_come_in_the_total_order_and_backwards(http: httpx.AsyncClient) -> None:
    found = await rows(http)
    assert len(found) == 6 * 400
    assert [place(row) for row in found] == sorted(place(row) for row in found)
    assert await rows(http, sort="desc") == found[::-1]
    assert (await http.get("/v1/trades", params={"limit": 50, "sort": "desc"})).json()["data"] == found[
        :-51:-1
    ]


async def test_the_clock_of_the_order_can_be_another(http: httpx.AsyncClient) -> None:
    by_receipt = await rows(http, time_field="ts_recv", fields=SOME)
    times = [row["ts_recv_ns"] for row in by_receipt]
    known = [int(time) for time in times if time is not None]
    assert known == sorted(known)
    assert times[len(known) :] == [None] * (len(times) - len(known))
    assert len(known) < len(times)
    start, end = known[10], known[30]
    within = await rows(http, time_field="ts_recv", start=start, end=end, fields="ts_recv_ns")
    assert [int(row["ts_recv_ns"]) for row in within] == [time for time in known if start <= time < end]
    assert not await rows(http, time_field="ts_ingest", end="2026-05-31")
    assert len(await rows(http, time_field="ts_ingest", start="2026-06-01")) == len(times)


@pytest.mark.parametrize(
    ("given", "holds"),
    [
        ({"price.gte": "50", "price.lt": "100"}, lambda r: 50 <= Decimal(r["price"]) < 100),
        ({"size.gt": "100"}, lambda r: Decimal(r["size"]) > 100),
        ({"size.lte": "100"}, lambda r: Decimal(r["size"]) <= 100),
        ({"side": "buy"}, lambda r: r["side"] == "buy"),
        (
            {"side": "buy,sell", "symbols": "SYM001"},
            lambda r: r["symbol"] == "SYM001" and r["side"] in ("buy", "sell"),
        ),
        ({"venues": "XALT"}, lambda r: r["venue"] == "XALT"),
        ({"conditions.any_of": "25,27"}, lambda r: {"25", "27"} & set(r["conditions"])),
        ({"include_conditions": "2", "exclude_conditions": "25"}, lambda r: r["conditions"] == ["2"]),
        ({"trading_date": "2026-03-03"}, lambda r: r["trading_date"] == "2026-03-03"),
        ({"source": "nobody"}, lambda r: False),
    ],
)
async def test_a_filter_is_exact(http: httpx.AsyncClient, given: dict[str, str], holds: Any) -> None:
    everything = await rows(http, fields=SOME)
    assert await rows(http, fields=SOME, **given) == [row for row in everything if holds(row)]


async def test_a_missing_side_of_a_quote_is_on_no_side_of_a_value(http: httpx.AsyncClient) -> None:
    everything = await rows(http, "/v1/quotes")
    above = await rows(http, "/v1/quotes", **{"bid_price.gte": "40"})
    below = await rows(http, "/v1/quotes", **{"bid_price.lt": "40"})
    missing = [row for row in everything if row["bid_price"] is None]
    assert missing
    assert len(above) + len(below) + len(missing) == len(everything)


async def test_every_format_has_the_same_rows_in_the_same_order(http: httpx.AsyncClient) -> None:
    given = {"symbols": "SYM001,SYM002", "limit": 600}
    page = (await http.get("/v1/trades", params=given)).json()["data"]
    assert page == await rows(http, **given)
    text = (await http.get("/v1/trades", params={**given, "format": "csv"})).text
    table = list(csv.DictReader(io.StringIO(text)))
    flat = [
        {
            name: value
            if isinstance(value, str)
            else ""
            if value is None
            else json.dumps(value, separators=(",", ":"))
            for name, value in row.items()
        }
        for row in page
    ]
    assert table == flat
    arrow = (await http.get("/v1/trades", params={**given, "format": "arrow"})).content
    parquet = (
        await http.get("/v1/trades", headers={"Accept": "application/vnd.apache.parquet"}, params=given)
    ).content
    streamed = pa.ipc.open_stream(arrow).read_all()
    assert pq.read_table(io.BytesIO(parquet)).equals(streamed)
    assert streamed.schema.field("price").type == pa.decimal128(28, 12)
    assert streamed.schema.metadata[b"k2.version"] == b"trades@6"
    for given_row, row in zip(streamed.to_pylist(), page, strict=True):
        assert given_row["price"] == Decimal(row["price"])
        assert given_row["ts_event_ns"] == int(row["ts_event_ns"]) == parse_time(row["ts_event"])


async def test_a_nanosecond_and_a_large_sequence_are_the_same_in_every_format(tmp_path: Path) -> None:
    """Beyond 2^53 JavaScript rounds numbers; microseconds would make the two rows equal."""
    catalog, text = empty(tmp_path), trades_csv(2, seed=1, symbols=1, days=1)
    given, first_ns, sequences = rows_of(text, upload="U1"), START_US * 1000 + 1, [2**53 + 1, 2**63 - 1]
    for name, values in (("ts_event_ns", [first_ns, first_ns + 1]), ("sequence", sequences)):
        given = given.set_column(given.schema.get_field_index(name), name, pa.array(values))
    micros = pa.array([first_ns // 1000] * 2).cast(pa.timestamp("us", "UTC"))
    append(catalog, TRADES, given.set_column(given.schema.get_field_index("ts_event"), "ts_event", micros))
    texts = [(f"2026-03-02T09:30:00.00000000{n}Z", str(s)) for n, s in zip((1, 2), sequences, strict=True)]
    with serving(catalog) as app:
        async with client(app) as http:
            for form in ("json", "ndjson", "csv", "arrow", "parquet"):
                answer = await http.get("/v1/trades", params={"format": form})
                assert answer.status_code == 200, answer.text
                if form in ("arrow", "parquet"):
                    table = (
                        pa.ipc.open_stream(answer.content).read_all()
                        if form == "arrow"
                        else pq.read_table(io.BytesIO(answer.content))
                    )
                    assert table.schema.field("ts_event").type == pa.timestamp("ns", "UTC")
                    assert table["ts_event"].cast(pa.int64()).to_pylist() == [first_ns, first_ns + 1]
                    assert table["sequence"].to_pylist() == sequences
                    continue
                found = {
                    "json": lambda a: a.json()["data"],
                    "ndjson": lambda a: [json.loads(line) for line in a.text.splitlines()],
                    "csv": lambda a: list(csv.DictReader(io.StringIO(a.text))),
                }[form](answer)
                assert [(row["ts_event"], row["sequence"]) for row in found] == texts


async def test_a_stream_without_rows_still_has_its_columns(http: httpx.AsyncClient) -> None:
    given = {"symbols": "NOBODY", "fields": "symbol,price,attributes.x"}
    answer = await http.get("/v1/trades", params={**given, "format": "arrow"})
    empty = pa.ipc.open_stream(answer.content).read_all()
    assert (empty.num_rows, empty.column_names) == (0, ["symbol", "price", "attributes.x"])
    assert (answer.headers["X-K2-Unresolved"], answer.headers["X-K2-Unresolved-Count"]) == ("NOBODY", "1")
    answer = await http.get("/v1/trades", params={**given, "format": "parquet"})
    assert pq.read_table(io.BytesIO(answer.content)).schema.equals(empty.schema)
    assert (
        await http.get("/v1/trades", params={**given, "format": "csv"})
    ).text == "symbol,price,attributes.x\n"


async def test_fields_times_and_numbers_are_as_wanted(http: httpx.AsyncClient) -> None:
    given = {
        "fields": 'price,ts_event,attributes.a"b',
        "price_format": "number",
        "timestamp_format": "ns",
        "limit": 3,
    }
    exact = await rows(http, limit=3)
    found = await rows(http, **given)
    assert [list(row) for row in found] == [["price", "ts_event", 'attributes.a"b']] * 3
    for row, known in zip(found, exact, strict=True):
        assert row["price"] == float(known["price"])
        assert row["ts_event"] == known["ts_event_ns"]
    answer = await http.get("/v1/trades", params={**given, "format": "arrow"})
    types = pa.ipc.open_stream(answer.content).read_all().schema.types
    assert types == [pa.float64(), pa.int64(), pa.string()]


async def test_the_newest_per_symbol_is_the_last_in_the_order(http: httpx.AsyncClient) -> None:
    newest = {row["symbol"]: row for row in await rows(http, venues="XALT")}
    assert {row["symbol"]: row for row in await rows(http, "/v1/trades/latest", venues="XALT")} == newest
    before = "2026-03-03T12:00:00Z"
    newest = {row["symbol"]: row for row in await rows(http, end=before)}
    found = await http.get("/v1/trades/latest", params={"end": before, "symbols": "SYM003,NOBODY,SYM000"})
    assert found.json()["data"] == [newest["SYM000"], newest["SYM003"]]
    assert found.json()["meta"]["unresolved"] == ["NOBODY"]


async def test_a_body_asks_what_a_query_asks(http: httpx.AsyncClient) -> None:
    asked = {"symbols": "SYM001,SYM002", "price.gt": "10", "limit": 5, "sort": "desc"}
    page = (await http.get("/v1/trades", params=asked)).json()
    for symbols in ("SYM001,SYM002", ["SYM001", "SYM002"]):
        posted = (await http.post("/v1/trades/query", json={**asked, "symbols": symbols})).json()
        assert posted["data"] == page["data"]
    turned = {**asked, "page_token": page["next_page_token"]}
    assert (await http.post("/v1/trades/query", json=turned)).json()["data"] == (
        await http.get("/v1/trades", params=turned)
    ).json()["data"]
    many = [f"S{number}" for number in range(2_000)]
    found = (await http.post("/v1/quotes/query", json={"symbols": many})).json()
    assert (found["data"], len(found["meta"]["unresolved"])) == ([], 2_000)


@pytest.mark.parametrize(
    ("given", "name", "code"),
    [
        ({"symbls": "A"}, "symbls", "UNKNOWN_PARAMETER"),
        ({"price.ge": "1"}, "price.ge", "UNKNOWN_PARAMETER"),
        ({"price.gt": "abc"}, "price.gt", "INVALID"),
        ({"price.gt": "0.0000000000001"}, "price.gt", "INVALID"),
        ({"side": "up"}, "side", "INVALID"),
        ({"fields": "price,prize"}, "fields", "INVALID"),
        ({"format": "xml"}, "format", "INVALID"),
        ({"sort": "up"}, "sort", "INVALID"),
        ({"limit": "10001"}, "limit", "INVALID"),
        ({"symbols": ",".join(f"S{n}" for n in range(2_001))}, "symbols", "INVALID"),
    ],
)
async def test_a_wrong_parameter_is_named(
    http: httpx.AsyncClient, given: dict[str, str], name: str, code: str
) -> None:
    answer = await http.get("/v1/trades", params=given)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert [(e["parameter"], e["code"]) for e in answer.json()["errors"]] == [(name, code)]
    body = await http.post("/v1/trades/query", json=given)
    assert body.status_code == 400
    assert body.json()["errors"][0]["code"] == code


async def test_an_answer_can_be_kept(http: httpx.AsyncClient) -> None:
    given = {"symbols": "SYM001", "limit": 2}
    first = await http.get("/v1/trades", params=given)
    tag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"
    for parameters, status in ((given, 304), ({**given, "limit": 3}, 200), ({**given, "format": "csv"}, 200)):
        again = await http.get("/v1/trades", params=parameters, headers={"If-None-Match": tag})
        assert again.status_code == status, parameters
    fixed = await http.get("/v1/trades", params={**given, "as_of": first.json()["meta"]["version"]})
    assert fixed.headers["Cache-Control"] == "private, max-age=86400"
    assert fixed.json()["data"] == first.json()["data"]


@pytest.mark.parametrize("form", ["json", "ndjson", "csv", "arrow"])
async def test_bodies_are_compressed_as_accepted(http: httpx.AsyncClient, form: str) -> None:
    given = {"format": form, "limit": 500, "as_of": "trades@6", "fields": SOME}
    contents = {}
    for encoding in ("identity", "gzip", "zstd"):
        async with http.stream(
            "GET", "/v1/trades", params=given, headers={"Accept-Encoding": encoding}
        ) as answer:
            assert answer.headers.get("Content-Encoding", "identity") == encoding
            contents[encoding] = b"".join([part async for part in answer.aiter_raw()])
    plain = contents["identity"]
    unpacked = (
        gzip.decompress(contents["gzip"]),
        zstandard.ZstdDecompressor().decompressobj().decompress(contents["zstd"]),
    )
    for content in unpacked:
        if form == "json":  # the ids of the requests differ
            assert json.loads(content)["data"] == json.loads(plain)["data"]
        elif form == "arrow":  # what lies under a null may be anything
            assert pa.ipc.open_stream(content).read_all().equals(pa.ipc.open_stream(plain).read_all())
        else:
            assert content == plain


async def test_an_old_version_and_an_unknown_one(http: httpx.AsyncClient) -> None:
    assert len(await rows(http, as_of="trades@2")) == 2 * 400
    assert {row["upload_id"] for row in await rows(http, as_of="trades@2")} == {"U0", "U1"}
    answer = await http.get("/v1/trades", params={"as_of": "trades@99"})
    assert (answer.status_code, answer.json()["code"]) == (404, "VERSION_UNKNOWN")


async def test_what_waits_beyond_the_limit_is_refused(catalog: Catalog) -> None:
    narrow = EngineSettings(memory_megabytes=128, concurrent_queries=1, max_queued_queries=2)
    with serving(catalog, engine=narrow) as app:
        async with client(app) as http:
            answers = await asyncio.gather(
                *(http.get("/v1/trades", params={"limit": 10_000}) for _ in range(8))
            )
    found = sorted(answer.status_code for answer in answers)
    assert found[:2] == [200, 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (429, "TOO_MANY_QUERIES")
        assert answer.headers["Retry-After"] == "1"
