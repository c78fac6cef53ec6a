"""A version answers the same however its rows lie in files: ties, joins, first and last values."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from k2common.columnar.canonical import Digest
from k2common.iceberg.catalogs.catalog import Catalog, load_table
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.maintenance.rewrite import live_files
from k2common.schemas.datasets import QUOTES, TRADES
from k2common.testing.ticks import rearranged

from tests.integration.query.conftest import empty, fill
from tests.integration.query.serving import client, serving

DAY = "2026-03-03"
SYMBOL = "SYM001"
REQUESTS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("/v1/trades", {"limit": 10_000}),
    ("/v1/trades", {"limit": 10_000, "sort": "desc"}),
    ("/v1/trades", {"limit": 500, "symbols": SYMBOL, "time_field": "ts_recv"}),
    ("/v1/trades", {"limit": 500, "time_field": "ts_recv", "sort": "desc"}),
    ("/v1/trades", {"limit": 500, "time_field": "ts_ingest"}),
    ("/v1/trades", {"format": "ndjson", "venues": "XTST"}),
    ("/v1/trades", {"format": "csv", "trading_date": DAY}),
    ("/v1/quotes", {"format": "arrow"}),
    ("/v1/quotes", {"format": "parquet", "sort": "desc"}),
    ("/v1/quotes", {"limit": 10_000, "ask_price.gt": "10"}),
    ("/v1/trades/latest", {}),
    ("/v1/quotes/latest", {"time_field": "ts_ingest"}),
    (f"/v1/summary/{SYMBOL}/{DAY}", {}),
    ("/v1/bars", {"timeframe": "5Min", "format": "ndjson"}),
    ("/v1/bars", {"timeframe": "tick:50", "limit": 10_000}),
    ("/v1/bars", {"timeframe": "volume:10000", "symbols": SYMBOL, "off_market": "include"}),
    ("/v1/bars", {"timeframe": "dollar:1000000", "format": "arrow"}),
    ("/v1/joins/trades-quotes", {"format": "ndjson"}),
    ("/v1/joins/trades-quotes", {"match": "before", "tolerance": "1s", "limit": 10_000}),
)
"""Every endpoint with an order or a join has its requests here; `as_of` is added to each."""


async def answers(catalog: Catalog) -> list[str]:
    """A digest of each answer's data, as of versions that compaction does not change."""
    found = []
    with serving(catalog) as app:
        async with client(app) as http:
            for path, parameters in REQUESTS:
                answer = await http.get(path, params={**parameters, "as_of": "trades@5,quotes@5"})
                assert answer.status_code == 200, (path, answer.text)
                found.append(digest(answer, str(parameters.get("format", "json"))))
    return found


def digest(answer: httpx.Response, form: str) -> str:
    """Of the rows in their order: batches may end elsewhere, and what lies under a null may be anything."""
    if form in ("arrow", "parquet"):
        source = pa.BufferReader(answer.content)
        rows = pa.ipc.open_stream(source).read_all() if form == "arrow" else pq.read_table(source)
        assert rows.num_rows
        chain = Digest()
        chain.update(rows)
        return chain.finish().hex()
    content = answer.content if form != "json" else json.dumps(answer.json()["data"]).encode()
    assert len(content) > 10, "no rows"
    return hashlib.sha256(content).hexdigest()


def pieces_of(catalog: Catalog, table: str, rng: np.random.Generator) -> list[pa.Table]:
    """All rows of the table, shuffled, in a few pieces."""
    files = live_files(load_table(catalog, table))
    rows = pa.concat_tables(pq.ParquetFile(f.file_path.removeprefix("file://")).read() for f in files)
    rows = rows.take(pa.array(rng.permutation(rows.num_rows)))
    third = rows.num_rows // 3
    return [rows.slice(0, third), rows.slice(third, third), rows.slice(2 * third)]


@pytest.fixture(scope="module")
def arrangements(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    """The digests of all answers: as committed, compacted, and with the rows shuffled over other files."""
    catalog = empty(tmp_path_factory.mktemp("arranged"))
    fill(catalog)
    found = {"as committed": asyncio.run(answers(catalog))}
    for dataset in (TRADES, QUOTES):
        done = compact(catalog, dataset.table, order=dataset.order, max_rows=100_000, fan_in=2)
        assert done.groups
    found["compacted"] = asyncio.run(answers(catalog))
    rng = np.random.default_rng(7)
    for dataset in (TRADES, QUOTES):
        rearranged(catalog, dataset, pieces_of(catalog, dataset.table, rng))
    found["shuffled"] = asyncio.run(answers(catalog))
    return found


@pytest.mark.parametrize("number", range(len(REQUESTS)), ids=[f"{p} {q}" for p, q in REQUESTS])
@pytest.mark.parametrize("arrangement", ["compacted", "shuffled"])
def test_an_answer_does_not_depend_on_how_rows_lie_in_files(
    arrangements: Mapping[str, list[str]], arrangement: str, number: int
) -> None:
    assert arrangements[arrangement][number] == arrangements["as committed"][number]
