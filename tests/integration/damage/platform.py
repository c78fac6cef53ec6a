"""Gateway, loader, sink and query service in this process, on a broker of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import csv_loader.app
import httpx
import iceberg_sink.app
import ingest_gateway.app
import pyarrow as pa
import query_service.app
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from csv_loader.settings import CsvLoaderSettings
from iceberg_sink.settings import IcebergSinkSettings
from ingest_gateway.settings import IngestGatewaySettings
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.maintenance.rewrite import live_files
from k2common.schemas.datasets import STATUS, TRADES, UPLOADS
from k2common.settings.load import load
from query_service.settings import QueryServiceSettings

from tests.integration.sink.conftest import running

RANGE = {"symbols": "*", "start": "2000-01-01", "end": "2100-01-01"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Clients of the running services, and the files that they share."""

    gateway: httpx.AsyncClient
    sink: httpx.AsyncClient
    query: httpx.AsyncClient
    settings: IcebergSinkSettings

    @property
    def archive(self) -> Path:
        return Path(self.settings.iceberg.archive_root.removeprefix("file://"))

    async def upload(self, content: bytes, **parameters: str) -> dict[str, Any]:
        """POST an upload and wait: its final receipt."""
        headers = {"Content-Type": "text/csv"}
        answer = await self.gateway.post(
            "/v1/uploads", params={"dataset": "trades", **parameters}, content=content, headers=headers
        )
        assert answer.status_code == 202, answer.text
        path = f"/v1/uploads/{answer.json()['data']['upload_id']}"
        answer = await self.gateway.get(path, params={"wait": "committed", "timeout": "60"})
        receipt: dict[str, Any] = answer.json()["data"]
        return receipt

    async def maintain(self, task: str, table: str = TRADES.table, **parameters: str) -> dict[str, Any]:
        """POST a task of maintenance: its answer for the table."""
        answer = await self.sink.post(f"/v1/maintenance/{task}", params={"table": table, **parameters})
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["data"]
        return dict(found)

    async def expire_statuses(self) -> None:
        """Delete all statuses, once every final receipt is in its table, as retention does."""
        bootstrap = self.settings.kafka.bootstrap_servers
        while True:
            receipts = load_table(open_catalog(self.settings.iceberg), UPLOADS.table).scan().to_arrow()
            if set(self.rows()["upload_id"].unique().to_pylist()) <= set(receipts["upload_id"].to_pylist()):
                break
            await asyncio.sleep(0.1)
        places = [TopicPartition(STATUS.name, n) for n in range(STATUS.partitions)]
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            ends = await consumer.end_offsets(places)
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            await admin.delete_records(
                {place: RecordsToDelete(before_offset=end) for place, end in ends.items() if end}
            )
        finally:
            await admin.close()

    async def at(self, number: int) -> bytes | None:
        """All trades of a version; None for a version that is gone."""
        parameters = {**RANGE, "format": "ndjson", "as_of": f"trades@{number}"}
        answer = await self.query.get("/v1/trades", params=parameters)
        if answer.status_code == 410:
            return None
        assert answer.status_code == 200, answer.text[:300]
        return answer.content

    async def refusal(self) -> str | None:
        """The code with which the newest version is refused, by an answer that needs all its files."""
        answer = await self.query.get("/v1/bars", params={**RANGE, "timeframe": "1Day"})
        assert answer.status_code in (200, 503), answer.text[:300]
        return str(answer.json()["code"]) if answer.status_code == 503 else None

    def rows(self, table: str = TRADES.table) -> pa.Table:
        """Every row of the table's head with all columns, hidden ones too."""
        found = load_table(open_catalog(self.settings.iceberg), table).scan().to_arrow()
        return found.sort_by([("upload_id", "ascending"), ("line", "ascending")]).combine_chunks()

    def files(self, table: str = TRADES.table) -> list[Path]:
        """The live data files, those that are missing too."""
        live = live_files(load_table(open_catalog(self.settings.iceberg), table))
        return sorted(Path(file.file_path.removeprefix("file://")) for file in live)

    def snapshot_id(self, table: str = TRADES.table) -> int | None:
        return load_table(open_catalog(self.settings.iceberg), table).metadata.current_snapshot_id


@asynccontextmanager
async def open_platform(environ: Mapping[str, str]) -> AsyncIterator[Platform]:
    """The services, started and stopped."""
    settings = load(IcebergSinkSettings, environ)
    builds: list[tuple[Any, Any]] = [
        (ingest_gateway.app.build, load(IngestGatewaySettings, environ)),
        (csv_loader.app.build, load(CsvLoaderSettings, environ)),
        (iceberg_sink.app.build, settings),
        (query_service.app.build, load(QueryServiceSettings, environ)),
    ]
    async with AsyncExitStack() as opened:
        gateway, _, sink, query = [
            await opened.enter_async_context(running(build, given)) for build, given in builds
        ]
        yield Platform(gateway=gateway, sink=sink, query=query, settings=settings)
