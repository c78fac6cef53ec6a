"""Tables in a REST catalogue on an object store: what holds in a folder holds there."""

import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import k2common.iceberg.versions.hidden_files as hidden_files
import pyarrow as pa
import pytest
from k2common.columnar.arrow import arrow_schema_of
from k2common.engine.connection import Engine
from k2common.engine.scan import Filter, Parameters, Scan, rows_sql
from k2common.errors import TransientError
from k2common.iceberg.archive import Archive, ContentGone
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.files.lru import Recent
from k2common.iceberg.gaps import GapStore
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.maintenance.orphan_files import Sweeper, Swept, referenced
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.iceberg.versions.documents import head_version, live_versions
from k2common.schemas.datasets import GAPS, TRADES
from k2common.settings.engine import EngineSettings
from k2common.settings.iceberg import IcebergSettings
from k2common.testing.iceberg import (
    KEEP_FEW,
    START,
    append_trades,
    first_version,
    trade_rows,
    trades_proposal,
)
from k2common.versions.hidden import AmendedHiddenUploads, HiddenUpload, Reason

COMMITS = 8
ROWS = 7


@pytest.fixture
def catalog(iceberg: IcebergSettings) -> Catalog:
    """The catalogue with an empty table of trades."""
    opened = open_catalog(iceberg)
    if opened.namespace_exists("market") and opened.table_exists(TRADES.table):
        opened.drop_table(TRADES.table)
    ensure_tables(opened, [TRADES])
    return opened


def offsets(catalog: Catalog, number: int) -> list[int]:
    reader = VersionReader(catalog)
    rows = read_rows(catalog, reader.plan(reader.at(TRADES.table, number)), ["kafka_offset"])
    return sorted(rows["kafka_offset"].to_pylist())


def test_making_the_tables_again_changes_nothing(catalog: Catalog) -> None:
    ensure_tables(catalog)
    before = load_table(catalog, TRADES.table).metadata_location
    ensure_tables(catalog)
    assert load_table(catalog, TRADES.table).metadata_location == before


def test_two_writers_lose_and_double_nothing(catalog: Catalog, iceberg: IcebergSettings) -> None:
    together = threading.Barrier(2)

    def write(partition: int) -> None:
        own = open_catalog(iceberg)
        together.wait()
        done = 0
        while done < COMMITS:
            try:
                append_trades(own, ROWS, partition=partition, retention=KEEP_FEW)
            except TransientError:
                continue
            done += 1

    with ThreadPoolExecutor(2) as pool:
        for outcome in [pool.submit(write, partition) for partition in (0, 1)]:
            outcome.result()
    rows = load_table(catalog, TRADES.table).scan(selected_fields=("kafka_partition", "kafka_offset"))
    found = rows.to_arrow()
    places = zip(found["kafka_partition"].to_pylist(), found["kafka_offset"].to_pylist(), strict=True)
    assert sorted(places) == [(p, offset) for p in (0, 1) for offset in range(COMMITS * ROWS)]
    # Expired as asked, and the head is what was committed last.
    live = live_versions(load_table(catalog, TRADES.table).metadata)
    assert live[0].version.number == 2 * COMMITS
    assert len(live) <= KEEP_FEW.live + 1


def test_the_engine_reads_every_version_from_the_store(catalog: Catalog, iceberg: IcebergSettings) -> None:
    append_trades(catalog, 40, days=2)
    append_trades(catalog, 5, upload="U2")
    engine = Engine(EngineSettings(memory_megabytes=256), warehouse=iceberg)
    reader = VersionReader(catalog)
    for number, rows in ((1, 40), (2, 45)):
        plan = reader.plan(reader.at(TRADES.table, number))
        assert all(path.startswith("s3://") for path in plan.all_visible)
        parameters = Parameters()
        sql = rows_sql([Scan(dataset=TRADES, plan=plan)], Filter(), parameters)
        with engine.query(f"SELECT kafka_offset, price FROM ({sql}) ORDER BY 1", parameters.values) as query:
            assert query.table()["kafka_offset"].to_pylist() == list(range(rows))
    engine.close()


def test_the_secret_cannot_be_read_back_from_the_engine(iceberg: IcebergSettings) -> None:
    engine = Engine(EngineSettings(memory_megabytes=256), warehouse=iceberg)
    with engine.query("SELECT secret_string FROM duckdb_secrets()", {}) as query:
        (shown,) = query.table()["secret_string"].to_pylist()
    assert iceberg.s3_secret_access_key is not None
    assert iceberg.s3_secret_access_key.get_secret_value() not in shown
    engine.close()


def test_compaction_keeps_the_rows(catalog: Catalog) -> None:
    for _ in range(8):
        append_trades(catalog, 5, days=2)
    done = compact(catalog, TRADES.table, order=TRADES.order, max_rows=1000)
    assert done.files == 16
    assert offsets(catalog, 8) == list(range(40))
    assert offsets(catalog, 3) == list(range(15))


def test_many_hidden_uploads_are_in_a_file_of_the_archive(
    catalog: Catalog, iceberg: IcebergSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = {
        f"R{n}": HiddenUpload(reason=Reason.RETRACTED) for n in range(2 * hidden_files.MOST_IN_DOCUMENT)
    }
    append_trades(catalog, 5, upload="R1", hidden=hidden)
    monkeypatch.setattr(hidden_files, "_kept", Recent(limit=1))
    version = head_version(load_table(catalog, TRADES.table))
    assert version is not None
    assert isinstance(version.hidden, AmendedHiddenUploads)
    assert version.hidden.location.startswith(f"{iceberg.archive_root}/hidden/{TRADES.table}/")
    assert version.hidden == hidden


def test_files_that_nothing_names_are_swept(catalog: Catalog) -> None:
    for _ in range(8):
        append_trades(catalog, 5, retention=KEEP_FEW)
    lost = {file.file_path for file in trades_proposal(catalog, trade_rows(40, 5), expected=40).files}
    now, hour = datetime.now(UTC) + timedelta(days=1), timedelta(hours=1)
    sweeper = Sweeper(catalog, TRADES.table, guard=hour)
    assert sweeper.sweep(now=now).deleted == 0
    found = sweeper.sweep(now=now + hour)
    assert found.deleted == found.unreferenced > len(lost)
    table = load_table(catalog, TRADES.table)
    assert not any(table.io.new_input(path).exists() for path in lost)
    assert all(table.io.new_input(path).exists() for path in referenced(table))
    assert offsets(catalog, 8) == list(range(40))
    assert sweeper.sweep(now=now + 3 * hour) == Swept()


def test_the_archive_gives_the_bytes_back(catalog: Catalog, iceberg: IcebergSettings) -> None:
    content = os.urandom(3_000_000) + b"end"
    sha256 = hashlib.sha256(content).hexdigest()
    archive = Archive(catalog, root=iceberg.archive_root)
    assert not archive.holds(sha256)
    with pytest.raises(ContentGone):
        list(archive.content(sha256))
    for _ in range(2):  # equal bytes come again
        with archive.writer(sha256) as writer:
            writer.fill(io.BytesIO(content), 1_000)
            frame = pa.compress(content[1_000:2_000_000], codec="zstd", asbytes=True)
            writer.append(frame, start=1_000, length=1_999_000)
            writer.fill(io.BytesIO(content), len(content))
            writer.finish()
        assert b"".join(archive.content(sha256)) == content
    assert archive.holds(sha256)
    archive.remove(sha256)
    assert not archive.holds(sha256)


def test_the_state_of_the_gap_job_lies_in_the_store_and_is_no_orphan(iceberg: IcebergSettings) -> None:
    opened = open_catalog(iceberg)
    ensure_tables(opened)
    store = GapStore(opened)
    before = store.load()
    followed = {"trades": first_version(TRADES.table).successor(now=START, offsets={0: 5}, hidden={})}
    events = arrow_schema_of(GAPS.schema).empty_table()
    made, _ = store.commit(before, replace(before, followed=followed), events, now=START, retention=KEEP_FEW)
    assert made.location in referenced(load_table(opened, GAPS.table))
    assert store.load() == made
