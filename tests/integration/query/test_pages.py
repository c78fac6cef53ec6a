"""Pages are of one version: no row twice and none missing while rows arrive and files are merged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest
from k2common.iceberg.catalogs.catalog import Catalog, load_table
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.versions.documents import live_versions
from k2common.schemas.datasets import TRADES
from k2common.testing.generator import trades_csv
from k2common.testing.iceberg import record_version
from k2common.testing.ticks import append, rows_of

from tests.integration.query.conftest import empty, with_ties
from tests.integration.query.serving import client, serving

PAGE = 83
KEEP_TWO = Retention(live=2, recorded=lambda _: True)


def more(catalog: Catalog, number: int, rows: int = 120) -> None:
    """One upload more, its snapshot expiring soon; its version is recorded as the sink does."""
    text = trades_csv(rows, seed=number % 5, symbols=3, days=2)
    found = with_ties(rows_of(text, upload=f"U{number}", offset=number * rows))
    record_version(catalog, append(catalog, TRADES, found, retention=KEEP_TWO))


class Writer(Thread):
    """Commits and merges files until it is stopped."""

    def __init__(self, catalog: Catalog, *, first: int) -> None:
        super().__init__(daemon=True)
        self.stopped = Event()
        self.third_round = Event()
        self.rounds = 0
        self._catalog = catalog
        self._first = first

    def run(self) -> None:
        while not self.stopped.is_set():
            more(self._catalog, self._first + self.rounds)
            compact(
                self._catalog,
                TRADES.table,
                order=TRADES.order,
                max_rows=100_000,
                retention=KEEP_TWO,
                fan_in=2,
            )
            self.rounds += 1
            if self.rounds == 3:
                self.third_round.set()


async def pages(
    http: httpx.AsyncClient, parameters: dict[str, Any], *, most: int | None = None
) -> tuple[list[dict[str, Any]], set[str], str | None]:
    """Rows, versions and the token of the next page; until the end, or of so many pages."""
    rows: list[dict[str, Any]] = []
    versions = set()
    given = dict(parameters)
    for _ in range(most or 1_000):
        answer = (await http.get("/v1/trades", params=given)).raise_for_status().json()
        rows += answer["data"]
        versions.add(answer["meta"]["version"])
        given["page_token"] = answer["next_page_token"]
        if given["page_token"] is None:
            break
    return rows, versions, given["page_token"]


def identities(rows: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(row["upload_id"], row["line"]) for row in rows]


@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize("time_field", ["ts_event", "ts_recv"])
def test_pages_are_the_version_while_a_writer_commits_and_files_are_merged(
    tmp_path: Path, sort: str, time_field: str
) -> None:
    catalog = empty(tmp_path)
    for number in range(5):
        more(catalog, number)
    parameters = {"limit": PAGE, "sort": sort, "time_field": time_field, "fields": "upload_id,line"}
    writer = Writer(catalog, first=5)

    async def paged() -> None:
        with serving(catalog) as app:
            async with client(app) as http:
                everything = {"format": "ndjson", "fields": "upload_id,line", "sort": sort}
                whole = await http.get("/v1/trades", params={**everything, "time_field": time_field})
                writer.start()
                first, versions, token = await pages(http, parameters, most=3)
        await asyncio.to_thread(writer.third_round.wait, 120)
        # Another replica, which never saw the version live.
        with serving(catalog) as app:
            async with client(app) as http:
                rest, later, _ = await pages(http, {**parameters, "page_token": token})
        expected = [httpx.Response(200, content=line).json() for line in whole.text.splitlines()]
        assert versions == later == {"trades@5"}
        assert identities(first + rest) == identities(expected)
        assert len(set(identities(first + rest))) == 5 * 120

    try:
        asyncio.run(paged())
    finally:
        writer.stopped.set()
        writer.join(60)
    live = {found.version.number for found in live_versions(load_table(catalog, TRADES.table).metadata)}
    assert 5 not in live


async def test_a_token_belongs_to_its_request_and_its_key(catalog: Catalog) -> None:
    with serving(catalog) as app:
        async with client(app) as http:
            _, _, token = await pages(http, {"limit": 10}, most=1)
            assert token is not None
            changed = ({"sort": "desc"}, {"symbols": "SYM001"}, {"price.gt": "1"}, {"time_field": "ts_recv"})
            for other in changed:
                answer = await http.get("/v1/trades", params={"page_token": token, **other})
                assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMETER"), other
            for path, other in (
                ("/v1/quotes", {}),
                ("/v1/trades/latest", {}),
                ("/v1/trades", {"format": "csv"}),
            ):
                answer = await http.get(path, params={"page_token": token, **other})
                assert answer.status_code == 400, path
            forged = await http.get("/v1/trades", params={"page_token": token[:-4] + "AAAA"})
            assert (forged.status_code, forged.json()["code"]) == (400, "INVALID_PAGE_TOKEN")


async def test_the_link_leads_to_the_next_page(catalog: Catalog) -> None:
    with serving(catalog) as app:
        async with client(app) as http:
            whole = (await http.get("/v1/trades", params={"limit": 20})).json()["data"]
            first = await http.get("/v1/trades", params={"limit": 10})
            second = await http.get(first.links["next"]["url"])
            assert first.json()["data"] + second.json()["data"] == whole


async def test_the_newest_per_symbol_comes_in_pages_of_symbols(catalog: Catalog) -> None:
    with serving(catalog) as app:
        async with client(app) as http:
            whole = (await http.get("/v1/trades/latest")).json()["data"]
            assert [row["symbol"] for row in whole] == [f"SYM{n:03}" for n in range(4)]
            first = await http.get("/v1/trades/latest", params={"limit": 3})
            second = await http.get(first.links["next"]["url"])
            assert first.json()["data"] + second.json()["data"] == whole
