"""The query service on a catalogue in a folder, without Kafka, and a sink reduced to its commits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
from fastapi import FastAPI
from k2common.columnar.arrow import arrow_schema
from k2common.engine.connection import Engine
from k2common.iceberg.archive import Archive
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import Proposal, commit
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.files.data_files import write
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.versions.documents import head_version
from k2common.query.queries import Queries
from k2common.query.sandbox import Sandbox
from k2common.runtime.blocking import Blocking
from k2common.runtime.service import Runtime
from k2common.schemas.datasets import DATASETS, Dataset, avro_schema
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.load import load
from k2common.testing.iceberg import START, first_version, folder_catalog
from k2common.versions.hidden import HiddenUpload
from k2common.versions.version import Version
from query_service.app import application, parts_of
from query_service.metrics import QueryMetrics
from query_service.settings import QueryServiceSettings

ENVIRON = {
    "K2_HTTP__PORT": "1",
    "K2_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "K2_REGISTRY__URL": "http://127.0.0.1:1",
    "K2_QUERY__PAGE_KEY": "a-secret-of-the-tests",
    "K2_QUERY__CITATION_KEY": "a-secret-of-the-tests",
    "K2_ENGINE__MEMORY_MEGABYTES": "256",
    "K2_SANDBOX__MEMORY_MEGABYTES": "256",
    "K2_SANDBOX__STATEMENT_SECONDS": "60",
}
EVENT_NS = int(START.timestamp()) * 10**9
VALUES: Mapping[str, Any] = {
    "source": "test",
    "venue": "XNAS",
    "asset_class": "equity",
    "side": "buy",
    "kind": "split",
    "timeframe": "1Min",
}


@dataclass(slots=True, kw_only=True)
class House:
    """The application, and what is behind it."""

    app: FastAPI
    http: httpx.AsyncClient
    catalog: Catalog
    iceberg: IcebergSettings
    reader: VersionReader
    sandbox: Sandbox
    archive: Archive
    offsets: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        dataset: str,
        rows: list[dict[str, Any]],
        *,
        upload: str = "U1",
        hidden: dict[str, HiddenUpload] | None = None,
        retention: Retention | None = None,
        now: datetime = START,
    ) -> Version:
        """Commit rows of partition 0, and let the reader know."""
        kind = DATASETS[dataset]
        first = self.offsets.get(dataset, 0)
        self.offsets[dataset] = end = first + len(rows)

        def change(head: Version | None) -> Version:
            known = head or first_version(kind.table, now=now)
            shown = known.hidden if hidden is None else hidden
            return known.successor(now=now, offsets={0: end} if rows else {}, hidden=shown)

        table = load_table(self.catalog, kind.table)
        proposal = Proposal(
            table=kind.table,
            epoch=0,
            change=change,
            expected={0: first or None} if rows else {},
            files=write(rows_of(kind, rows, first=first, upload=upload), table=table),
            origin={"k2.kafka-cluster": "test"},
        )
        commit(self.catalog, proposal, retention=retention)
        version = self.reader.refresh(kind.table)
        assert version is not None
        assert version == head_version(load_table(self.catalog, kind.table))
        return version

    async def get(self, path: str, **parameters: Any) -> httpx.Response:
        return await self.http.get(path, params=parameters)

    async def data(self, path: str, **parameters: Any) -> Any:
        answer = await self.get(path, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def sql(self, sql: str, **body: Any) -> httpx.Response:
        return await self.http.post("/v1/sql", json={"sql": sql, **body})


@asynccontextmanager
async def open_house(home: Path, **environ: str) -> AsyncIterator[House]:
    """A house with all tables and no row."""
    iceberg = folder_catalog(home)
    catalog = open_catalog(iceberg)
    ensure_tables(catalog)
    given = {
        **ENVIRON,
        "K2_ICEBERG__CATALOG_URI": iceberg.catalog_uri,
        "K2_ICEBERG__WAREHOUSE": iceberg.warehouse,
        **environ,
    }
    settings = load(QueryServiceSettings, given)
    runtime = Runtime()
    blocking, engine = Blocking(workers=4), Engine(settings.engine)
    queries = Queries(engine, settings.engine)
    sandbox = Sandbox(settings.sandbox)
    reader = VersionReader(catalog)
    archive = Archive(catalog, root=iceberg.archive_root)
    parts = parts_of(
        reader,
        queries,
        blocking,
        settings=settings.query,
        metrics=QueryMetrics(runtime.metrics),
        sandbox=sandbox,
        archive=archive,
    )
    app = application(parts, runtime, settings.http)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://k2", timeout=120) as http:
            yield House(
                app=app,
                http=http,
                catalog=catalog,
                iceberg=iceberg,
                reader=reader,
                sandbox=sandbox,
                archive=archive,
            )
    finally:
        await sandbox.close()
        queries.close()
        engine.close()
        blocking.close()


def rows_of(dataset: Dataset, rows: list[dict[str, Any]], *, first: int, upload: str) -> pa.Table:
    """Rows of a dataset with their places in Kafka; what is not given has a value of its type."""
    schema = arrow_schema(avro_schema(dataset.topic.schema))
    columns: dict[str, Any] = {}
    for column in schema:
        given = [row.get(column.name, _value(column, row, place, upload)) for place, row in enumerate(rows)]
        if pa.types.is_decimal(column.type):
            given = [None if value is None else Decimal(value) for value in given]
        columns[column.name] = pa.array(given, column.type)
    count = len(rows)
    columns["kafka_epoch"] = pa.array([0] * count, pa.int32())
    columns["kafka_partition"] = pa.array([0] * count, pa.int32())
    columns["kafka_offset"] = pa.array(range(first, first + count), pa.int64())
    table = pa.table(columns)
    known = [name for name in dataset.order if name in table.column_names]
    return table.sort_by([(name, "ascending") for name in known]) if count else table


def _value(column: Any, row: Mapping[str, Any], place: int, upload: str) -> Any:
    event_ns = row.get("ts_event_ns", EVENT_NS + place * 1_000_000)
    known: dict[str, Any] = {
        **VALUES,
        "upload_id": upload,
        "line": place + 2,
        "ts_event_ns": event_ns,
        "ts_event": event_ns // 1000,
        "ts_ingest": int(START.timestamp()) * 10**6,
        "symbol": "ABC",
    }
    if column.name in known:
        return known[column.name]
    if pa.types.is_decimal(column.type):
        return None if column.nullable else Decimal(1)
    if pa.types.is_date(column.type):
        return date(2026, 3, 2)
    if pa.types.is_string(column.type):
        return None if column.nullable else "x"
    if pa.types.is_map(column.type) or pa.types.is_list(column.type):
        return []
    return None if column.nullable else 0
