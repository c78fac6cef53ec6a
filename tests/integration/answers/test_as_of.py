"""Every way to name a version gives its rows, on every read, also after rewriting and expiry."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.reading.tags import Tags
from k2common.schemas.datasets import QUOTES, TRADES
from k2common.testing.iceberg import START

from tests.integration.answers.house import House

MINUTE = timedelta(minutes=1)
KEEP = Retention(live=2, recorded=lambda _: True)
READS = ("rows", "sql", "range", "citation")


async def count(house: House, read: str, as_of: str) -> Any:
    """How many trades a read sees as of a version."""
    if read == "rows":
        return len(await house.data("/v1/trades", as_of=as_of))
    if read == "range":
        return (await house.data("/v1/datasets/trades/range", as_of=as_of))["rows"]
    if read == "sql":
        answer = await house.sql("SELECT count(*) AS n FROM trades", as_of=as_of)
        return answer.json()["data"][0]["n"]
    body = {"endpoint": "trades", "parameters": {"as_of": as_of}}
    return (await house.http.post("/v1/citations", json=body)).json()["data"]["rows"]


def record(house: House) -> None:
    """What the sink keeps of the live versions in `ingest.versions`."""
    rows = [
        {
            "table": TRADES.table,
            "number": live.version.number,
            "snapshot_id": live.snapshot_id,
            "committed_at": live.version.committed_at,
            "document": live.version.to_json(),
        }
        for live in house.reader.snapshots(TRADES.table)
    ]
    house.add("versions", rows, upload="")


@pytest.fixture
def past(house: House) -> dict[str, str]:
    """Names of the version that shows two trades, of which nothing is live any more."""
    house.add("quotes", [{"bid_price": "1"}], now=START)
    house.add("trades", [{"price": "1"}], now=START)
    house.add("trades", [{"price": "2"}], upload="U2", now=START + MINUTE)
    record(house)
    snapshot = house.reader.snapshots(TRADES.table)[0].snapshot_id
    Tags(house.catalog).put("eod", "quotes@1,trades@2", now=START)
    for n in range(1, 5):
        moment = START + MINUTE * (5 + n)
        house.add("trades", [{"price": "3"}], upload=f"L{n}", now=moment)
        house.add("quotes", [{"bid_price": "2"}], upload=f"L{n}", now=moment)
    compact(house.catalog, TRADES.table, order=TRADES.order, max_rows=1000)
    house.add("trades", [], hidden={}, retention=KEEP, now=START + MINUTE * 20)
    house.reader.refresh(TRADES.table)
    return {"token": "trades@2", "time": "2026-03-02T09:33:00Z", "tag": "eod", "snapshot": str(snapshot)}


@pytest.mark.parametrize("read", READS)
async def test_every_name_gives_the_same_rows(house: House, past: dict[str, str], read: str) -> None:
    found = {name: await count(house, read, text) for name, text in past.items()}
    assert set(found.values()) == {2}, found


async def test_several_tables_are_read_as_of_one_name(house: House, past: dict[str, str]) -> None:
    sql = "SELECT (SELECT count(*) FROM trades) AS trades, (SELECT count(*) FROM quotes) AS quotes"
    for as_of in ("trades@2,quotes@1", "eod"):
        answer = (await house.sql(sql, as_of=as_of)).json()
        assert answer["data"] == [{"trades": 2, "quotes": 1}]
        assert answer["meta"]["version"] == "quotes@1,trades@2"


@pytest.mark.parametrize("read", READS[:1])
async def test_what_there_never_was_is_unknown_and_what_was_purged_is_gone(
    house: House, past: dict[str, str], read: str
) -> None:
    for as_of, status, code in (
        ("trades@999", 404, "VERSION_UNKNOWN"),
        ("no-such-tag", 404, "VERSION_UNKNOWN"),
        (f"{QUOTES.name}@1", 400, "INVALID_PARAMETER"),
        ("soon?", 400, "INVALID_PARAMETER"),
    ):
        answer = await house.get("/v1/trades", as_of=as_of)
        assert (answer.status_code, answer.json()["code"]) == (status, code), as_of
