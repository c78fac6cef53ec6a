"""While the store is unavailable or hangs the sink waits, holds what the settings say, and loses nothing."""

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import iceberg_sink.commits.writer
import pytest
from iceberg_sink import app as sink
from iceberg_sink.settings import IcebergSinkSettings
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.kafka.consumer import BatchReader
from k2common.registry.client import SchemaRegistry
from k2common.schemas.datasets import TRADES
from k2common.settings.load import load
from k2local.stack import LocalStack

from tests.integration.sink.conftest import running
from tests.integration.sink.messages import SCHEMA, TOPIC, many, write

LIMIT_SECONDS = 120
COMMIT_ROWS, FETCH_BATCHES, ROWS, UPLOADS = 1_000, 2, 1_500, 6


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows of trades came in each fetch."""
    found: list[int] = []

    class Counting(BatchReader):
        async def fetch(self, **wanted: Any) -> Any:
            answer = await super().fetch(**wanted)
            found.extend(b.count for (topic, _), bs in answer.items() if topic == TOPIC for b in bs)
            return answer

    monkeypatch.setattr(iceberg_sink.commits.writer, "BatchReader", Counting)
    return found


def lines(settings: IcebergSinkSettings, upload_id: str) -> list[int]:
    scan = load_table(open_catalog(settings.iceberg), TRADES.table).scan(
        row_filter=f"upload_id = '{upload_id}'", selected_fields=("line",)
    )
    found: list[int] = scan.to_arrow()["line"].to_pylist()
    return sorted(found)


async def committed(settings: IcebergSinkSettings, uploads: list[str]) -> None:
    for upload_id in uploads:
        while len(await asyncio.to_thread(lines, settings, upload_id)) < ROWS:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.2)
        assert lines(settings, upload_id) == list(range(2, ROWS + 2))


async def still(fetched: list[int]) -> None:
    """Return once nothing was fetched for some time."""
    seen = -1
    while seen != len(fetched):
        seen = len(fetched)
        await asyncio.sleep(1)


async def test_a_store_that_hangs_or_is_away_costs_no_memory_and_no_row(
    environ: Mapping[str, str], sink_stack: LocalStack, fetched: list[int]
) -> None:
    bounds = {"K2_SINK__COMMIT_ROWS": str(COMMIT_ROWS), "K2_SINK__FETCH_BATCHES": str(FETCH_BATCHES)}
    settings = load(IcebergSinkSettings, {**environ, **bounds})
    schema_id = await SchemaRegistry(settings.registry).ensure(TRADES.topic.subject, SCHEMA)
    home: Path = sink_stack.settings.home

    async def post(name: str) -> list[str]:
        uploads = [f"{name}{number}" for number in range(UPLOADS)]
        for upload_id in uploads:
            values = many(upload_id, ROWS, schema_id=schema_id)
            await write(settings.kafka, settings.registry, upload_id, values, partition=1)
        return uploads

    async with asyncio.timeout(LIMIT_SECONDS), running(sink.build, settings):
        await committed(settings, await post("BEFORE"))
        fetched.clear()
        with closing(sqlite3.connect(home / "catalog.db", isolation_level=None)) as catalogue:
            catalogue.execute("BEGIN EXCLUSIVE")
            hanging = await post("HANGING")
            await still(fetched)
            # One commit waits, one is being written, and each ends with a batch; what a fetch brings is held.
            largest = max(fetched)
            assert 0 < sum(fetched) <= 2 * (COMMIT_ROWS + largest) + FETCH_BATCHES * largest
            catalogue.execute("ROLLBACK")
        await committed(settings, hanging)

        warehouse, away = home / "warehouse", home / "warehouse.away"
        warehouse.rename(away)
        warehouse.write_bytes(b"no folder")
        uploads = await post("AWAY")
        await still(fetched)
        warehouse.unlink()
        away.rename(warehouse)
        await committed(settings, uploads)
