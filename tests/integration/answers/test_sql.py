"""SQL sees one version and nothing else, whatever it tries; the service lives on."""

from __future__ import annotations

import asyncio
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from k2common.testing.escapes import BOMBS, FORBIDDEN, MALFORMED
from k2common.versions.hidden import HiddenUpload, Reason

from tests.integration.answers.house import EVENT_NS, House, open_house

ESCAPES = [sql for group in FORBIDDEN.values() for sql in group]


async def rows(house: House, sql: str, **body: Any) -> list[dict[str, Any]]:
    answer = await house.sql(sql, **body)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


def files_in(home: Path) -> list[Path]:
    return sorted(path for path in home.rglob("*") if path.is_file())


async def test_no_way_out_of_the_sandbox(market: House, tmp_path: Path) -> None:
    assert len(ESCAPES) >= 60
    secret = tmp_path / "secret.csv"
    secret.write_text("secret\n1\n")
    planned = str(next((tmp_path / "market" / "trades").rglob("*.parquet")))
    before = files_in(tmp_path)

    async def tried(sql: str) -> None:
        answer = await market.sql(sql.replace("{file}", str(secret)).replace("{planned}", planned))
        assert (answer.status_code, answer.json()["code"]) == (422, "SQL_NOT_ALLOWED"), (sql, answer.text)
        assert "position" in answer.json()

    for sql in ESCAPES[::9]:  # each of them is tried on the judge and on the locks in the unit tests
        await tried(sql)
    for sql in MALFORMED[1::3]:
        answer = await market.sql(sql)
        assert answer.json()["code"] in ("SQL_INVALID", "SQL_NOT_ALLOWED"), (sql, answer.text)
    assert files_in(tmp_path) == before
    assert len(await rows(market, "SELECT * FROM trades")) == 8


async def test_bombs_end_by_their_limits_and_take_nothing_with_them(tmp_path: Path) -> None:
    async with open_house(tmp_path, K2_SANDBOX__STATEMENT_SECONDS="4") as house:
        for sql in BOMBS:
            answer = await house.sql(sql)
            assert answer.json()["code"] in ("QUERY_TIMEOUT", "QUERY_TOO_LARGE"), (sql, answer.text)

    async with open_house(tmp_path, K2_SANDBOX__ANSWER_MEGABYTES="1") as house:
        big = await house.sql("SELECT range AS n, repeat('x', 2000) AS t FROM range(1000)")
        assert (big.status_code, big.json()["code"]) == (422, "QUERY_TOO_LARGE")
        assert await rows(house, "SELECT 1 AS n") == [{"n": 1}]


async def test_a_statement_sees_the_rows_of_the_version_alone(market: House) -> None:
    count = "SELECT count(*) AS n, count(*) FILTER (WHERE symbol = 'SECRET') AS secret FROM trades"
    assert await rows(market, count) == [{"n": 8, "secret": 0}]
    assert await rows(market, count, as_of="trades@2") == [{"n": 10, "secret": 3}]
    assert await rows(market, count, as_of="trades@1") == [{"n": 7, "secret": 0}]
    answer = await market.sql("SELECT count(*) AS n FROM trades, quotes", as_of="quotes@1,trades@1")
    assert (answer.json()["data"], answer.json()["meta"]["version"]) == ([{"n": 28}], "quotes@1,trades@1")
    for as_of, status, code in (
        ("trades@99", 404, "VERSION_UNKNOWN"),
        ("quotes@1", 400, "INVALID_PARAMETER"),
        ("when?", 400, "INVALID_PARAMETER"),
    ):
        refused = await market.sql(count, as_of=as_of)
        assert (refused.status_code, refused.json()["code"]) == (status, code)


async def test_a_hidden_upload_in_the_same_file_is_not_seen(house: House) -> None:
    hidden = {"B": HiddenUpload(reason=Reason.RETRACTED)}
    trades = [{"upload_id": name, "price": "1", "line": n} for n in range(5) for name in ("A", "B")]
    house.add("trades", trades, hidden=hidden)
    assert await rows(house, "SELECT DISTINCT upload_id AS u, count(*) AS n FROM trades GROUP BY 1") == [
        {"u": "A", "n": 5}
    ]


async def test_values_are_exact_in_every_format(market: House) -> None:
    sql = (
        "SELECT symbol, sum(price * size) AS notional, min(ts_event_ns) AS first_ns "
        "FROM trades GROUP BY 1 ORDER BY 1"
    )
    expected = [
        {"symbol": "ABC", "notional": "291.5", "first_ns": str(EVENT_NS)},
        {"symbol": "XYZ", "notional": "0.000000000369", "first_ns": str(EVENT_NS + 6_000_000)},
    ]
    assert await rows(market, sql) == expected
    lines = (await market.sql(sql, format="ndjson")).text.splitlines()
    assert [json.loads(line) for line in lines] == expected
    text = (await market.sql(sql, format="csv")).text
    assert text.splitlines()[1] == f"ABC,291.5,{EVENT_NS}"
    arrow = await market.sql(sql, format="arrow")
    assert arrow.headers["X-K2-Version"] == "trades@4"
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert table["notional"].to_pylist() == [Decimal("291.5"), Decimal("0.000000000369")]
    parquet = await market.sql(sql, format="parquet")
    assert pq.read_table(io.BytesIO(parquet.content)).equals(table)


async def test_tables_can_be_narrowed(market: House) -> None:
    count = "SELECT count(*) AS n FROM trades"
    assert await rows(market, count, symbols=["XYZ"]) == [{"n": 1}]
    assert await rows(market, count, start="2026-03-02T09:30:01Z") == [{"n": 1}]
    assert await rows(market, count, end="2026-03-02T09:30:00.002Z") == [{"n": 2}]
    both = "SELECT count(*) AS n FROM trades, corporate_actions"
    assert await rows(market, both, start="2026-03-02T09:30:01Z", symbols=["ABC"]) == [{"n": 1}]


async def test_parameters_are_values_and_never_text(market: House) -> None:
    sql = "SELECT count(*) AS n FROM trades WHERE symbol = $symbol"
    assert await rows(market, sql, parameters={"symbol": "XYZ"}) == [{"n": 1}]
    assert await rows(market, sql, parameters={"symbol": "' OR 1=1 --"}) == [{"n": 0}]
    missing = await market.sql(sql)
    assert (missing.status_code, missing.json()["code"]) == (400, "SQL_INVALID")


async def test_json_is_cut_off_at_its_limit_and_says_so(market: House) -> None:
    answer = (await market.sql("SELECT * FROM range(5000)")).json()
    assert (len(answer["data"]), answer["meta"]["truncated"]) == (1000, True)
    assert len(await rows(market, "SELECT * FROM range(5000)", limit=10_000)) == 5000
    for body in ({"limit": 10_001}, {"limit": 0}, {"start": "soon"}, {"timezone": "Mars"}, {"format": "xml"}):
        refused = await market.sql("SELECT 1", **body)
        assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_PARAMETER"), body
    backwards = await market.sql("SELECT 1", start="2026-01-02", end="2026-01-01")
    assert backwards.json()["errors"][0]["parameter"] == "end"


async def test_a_client_that_goes_ends_its_statement(market: House) -> None:
    endless = "SELECT range AS n FROM range(1000000000000)"
    sent: list[dict[str, Any]] = []
    gone = asyncio.Event()
    body = json.dumps({"sql": endless, "format": "ndjson"}).encode()

    async def receive() -> dict[str, Any]:
        if not sent and not gone.is_set() and not getattr(receive, "asked", False):
            receive.asked = True  # type: ignore[attr-defined]
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) > 5:
            gone.set()

    scope = {
        "type": "http", "method": "POST", "path": "/v1/sql", "raw_path": b"/v1/sql", "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")],
        "http_version": "1.1", "scheme": "http",
        "server": ("k2", 80), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    async with asyncio.timeout(60):
        await market.app(scope, receive, send)
    assert len(sent) > 5
    assert market.sandbox.running == 0
    assert await rows(market, "SELECT 1 AS n") == [{"n": 1}]


async def test_more_than_may_wait_are_refused(tmp_path: Path) -> None:
    few = {"K2_SANDBOX__CONCURRENT_STATEMENTS": "1", "K2_SANDBOX__MAX_QUEUED_STATEMENTS": "0"}
    async with open_house(tmp_path, K2_SANDBOX__STATEMENT_SECONDS="5", **few) as house:
        slow = asyncio.create_task(house.sql("SELECT count(*) FROM range(1000000000000)"))
        while not house.sandbox.running:  # noqa: ASYNC110 - the sandbox has no event to wait for
            await asyncio.sleep(0)
        refused = await house.sql("SELECT 1")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert (await slow).json()["code"] == "QUERY_TIMEOUT"


@pytest.mark.parametrize("dataset", ["trades", "quotes", "bars", "instruments", "corporate_actions", "gaps"])
async def test_a_table_without_rows_has_its_columns(house: House, dataset: str) -> None:
    answer = await house.sql(f"SELECT * FROM {dataset}", format="arrow")
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.num_rows == 0
    assert {"symbol", "venue"} <= set(table.column_names)


async def test_a_nul_does_not_end_a_statement(house: House) -> None:
    answer = await house.sql("SELECT 1\0 FROM secret")
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json()["position"]) == ("SQL_INVALID", 9)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/sql", rb'{"sql": "SELECT \ud800"}'),
        ("/v1/sql", rb'{"sql": "SELECT $a", "parameters": {"a": "\udc00"}}'),
        ("/v1/sql", rb'{"sql": "SELECT 1", "\ud800": 1}'),
        ("/v1/sql", b'{"sql": "SELECT \xed\xa0\x80"}'),
        ("/v1/sql", b'{"sql": "\xff"}'),
        ("/v1/sql", b"[" * 100_000),
        ("/v1/sql", b'{"sql": ' + b"9" * 100_000 + b"}"),
        ("/v1/sql", b'{"sql": NaN, "limit": Infinity}'),
        ("/v1/sql", b'{"sql": "SELECT $a", "parameters": {"a": [1, [2]]}}'),
        ("/v1/sql", b'{"sql": "SELECT $a", "parameters": {"a": 1e400, "b": NaN}}'),
        ("/v1/citations", rb'{"endpoint": "trades", "parameters": {"symbols": "\ud800"}}'),
        ("/v1/citations", rb'{"endpoint": "trades", "parameters": {"\ud800": 1}}'),
        ("/v1/citations", rb'{"endpoint": "sql", "parameters": {"sql": "SELECT \ud800"}}'),
        ("/v1/citations", b'{"endpoint": "trades", "parameters": {"symbols": [[[1]]]}}'),
        ("/v1/citations/verify", rb'{"endpoint": "trades", "signature": "\ud800"}'),
        ("/v1/trades/query", rb'{"symbols": "\ud800"}'),
        ("/v1/trades/query", rb'{"symbols": ["\udc00"]}'),
        ("/v1/bars/query", rb'{"\ud800": 1}'),
        ("/v1/trades/query", b"\x00"),
        ("/v1/trades/query", b""),
    ],
)
async def test_no_body_is_a_fault_of_the_service(house: House, path: str, body: bytes) -> None:
    answer = await house.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, answer.text
