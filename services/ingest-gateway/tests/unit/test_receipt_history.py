"""A receipt that its topic no longer holds is read from the table, once."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from ingest_gateway.receipts.receipt_history import PastReceipts
from ingest_gateway.receipts.receipts import final_record, receipt, settled
from ingest_gateway.receipts.tracker import Tracker
from k2common.columnar.arrow import arrow_schema
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import Proposal, commit
from k2common.iceberg.files.data_files import write
from k2common.iceberg.reading.reader import VersionReader
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import SystemClock
from k2common.schemas.datasets import REJECTS, TRADES, UPLOADS, avro_schema
from k2common.testing.iceberg import first_version, folder_catalog
from k2common.versions.version import Version

from .test_receipts import END, NOW, UPLOAD, claim, status
from .test_receipts import commit as committed


class Later(SystemClock):
    def now(self):  # type: ignore[no-untyped-def]
        return NOW + timedelta(days=40)


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    pool = Blocking(workers=1)
    yield pool
    pool.close()


def record() -> dict[str, object]:
    tracker = Tracker(SystemClock())
    tracker.on_claim(claim("published"))
    for message in (status(0), END):
        tracker.on_status(message)
    committed(tracker, TRADES.table, 1, {0: 12})
    committed(tracker, REJECTS.table, 1, {1: 1})
    upload = tracker.uploads[UPLOAD]
    assert upload.spec is not None
    assert upload.progress is not None
    end = settled(upload.progress, tracker)
    assert end is not None
    return dict(final_record(upload.spec, upload.progress, end, published_at=NOW, now=NOW))


def store(catalog: Catalog, row: dict[str, object]) -> None:
    table = load_table(catalog, UPLOADS.table)
    place = {"kafka_epoch": 0, "kafka_partition": 0, "kafka_offset": 0}
    full = {**row, **place, "ts_ingest": NOW}
    schema = arrow_schema(avro_schema(UPLOADS.topic.schema))
    kinds = {"kafka_epoch": pa.int32(), "kafka_partition": pa.int32(), "kafka_offset": pa.int64()}
    fields = [schema.field(name) for name in schema.names if name not in kinds]
    names = {field.name for field in fields}
    wanted = [*fields, *(pa.field(name, kind) for name, kind in kinds.items())]
    rows = pa.Table.from_pylist([full], schema=pa.schema(wanted))
    assert "receipt" in names

    def change(head: Version | None) -> Version:
        known = head or first_version(UPLOADS.table)
        return known.successor(now=NOW, offsets={0: 1}, hidden={})

    proposal = Proposal(
        table=UPLOADS.table,
        epoch=0,
        change=change,
        expected={0: None},
        files=write(rows, table=table),
        origin={"k2.kafka-cluster": "test"},
    )
    commit(catalog, proposal)


async def test_a_past_receipt_is_the_one_that_was_published(tmp_path: Path, blocking: Blocking) -> None:
    catalog = open_catalog(folder_catalog(tmp_path))
    ensure_tables(catalog)
    published = record()
    store(catalog, published)
    # The claim is kept for ever; statuses, commits and the final receipt are gone.
    tracker = Tracker(Later())
    tracker.on_claim(claim("final"))
    past = PastReceipts(
        catalog, VersionReader(catalog), tracker=tracker, blocking=blocking, clock=tracker.clock
    )
    assert receipt(tracker.uploads[UPLOAD], tracker)["state"] != "committed"
    await past.fill()
    found = receipt(tracker.uploads[UPLOAD], tracker)
    said = json.loads(str(published["receipt"]))
    assert (found["state"], found["version"]) == ("committed", said["version"])
    assert found["rows"]["committed"] == said["rows"]["committed"] == 2
