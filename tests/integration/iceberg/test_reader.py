"""Any version is read from today's head, also after its snapshot is gone."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import CommitResult, Proposal, commit
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.reading.plan import Plan
from k2common.iceberg.reading.reader import UnknownVersion, VersionGone, VersionReader
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import TRADES
from k2common.testing.iceberg import START, START_US, append_trades, folder_catalog, record_version
from k2common.versions.hidden import HiddenUpload, Reason
from k2common.versions.version import Version
from pyiceberg.catalog import Catalog

T = TRADES.table
LOADING = HiddenUpload(reason=Reason.LOADING)
Recorder = Callable[[CommitResult], object]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    opened = open_catalog(folder_catalog(tmp_path))
    ensure_tables(opened)
    return opened


@pytest.fixture
def record(catalog: Catalog) -> Recorder:
    """Puts a commit into ingest.versions, as the sink does from its topic."""
    return lambda result: record_version(catalog, result)


def rows_of(plan: Plan) -> list[int]:
    """Offsets that a reader of the plan sees; only straddling files get the version's rule."""
    offsets = []
    for path in plan.all_visible:
        offsets += pq.ParquetFile(path.removeprefix("file://")).read(["kafka_offset"])[0].to_pylist()
    for path in plan.straddling:
        rows = pq.ParquetFile(path.removeprefix("file://")).read(
            ["upload_id", "kafka_epoch", "kafka_partition", "kafka_offset"]
        )
        offsets += [
            row["kafka_offset"]
            for row in rows.to_pylist()
            if plan.version.shows(
                row["upload_id"],
                epoch=row["kafka_epoch"],
                partition=row["kafka_partition"],
                offset=row["kafka_offset"],
            )
        ]
    return sorted(offsets)


def test_an_old_version_is_read_after_its_snapshot_expired(catalog: Catalog, record: Recorder) -> None:
    recorded: set[int] = set()
    retention = Retention(live=2, recorded=recorded.__contains__)
    results = []
    for step in range(6):
        results.append(append_trades(catalog, 10, retention=retention, now=START + timedelta(hours=step)))
        record(results[-1])
        recorded.add(results[-1].version.number)
    reader = VersionReader(catalog)

    assert [live.version.number for live in reader.snapshots(T)] == [6, 5]
    for result in results:
        number = result.version.number
        assert reader.at(T, number) == result.version
        assert reader.by_time(T, START + timedelta(hours=number, minutes=-1)) == result.version
        assert reader.by_snapshot(T, result.snapshot_id) == result.version
        plan = reader.plan(reader.at(T, number))
        assert rows_of(plan) == list(range(10 * number))
        assert (len(plan.all_visible), len(plan.straddling)) == (number, 0)
    assert reader.by_time(T, START - timedelta(hours=1)) is None
    with pytest.raises(UnknownVersion):
        reader.at(T, 7)


def test_a_hidden_upload_is_left_out_and_shown_by_a_commit_without_rows(catalog: Catalog) -> None:
    append_trades(catalog, 10, upload="U1")
    hidden = append_trades(catalog, 10, upload="U2", hidden={"U2": LOADING}).version
    head = head_version(load_table(catalog, T))
    assert head is not None

    def show(known: Version | None) -> Version:
        return (known or head).successor(now=START, offsets={}, hidden={})

    shown = commit(catalog, Proposal(table=T, epoch=0, change=show)).version
    reader = VersionReader(catalog)

    assert rows_of(reader.plan(hidden)) == list(range(10))
    assert reader.plan(hidden).straddling == ()
    assert rows_of(reader.plan(shown)) == list(range(20))


def test_a_rewritten_file_straddles_old_versions(catalog: Catalog) -> None:
    first = append_trades(catalog, 10, days=1).version
    second = append_trades(catalog, 10).version
    table = load_table(catalog, T)
    table.overwrite(table.scan().to_arrow())  # what another engine's compaction does
    reader = VersionReader(catalog)

    for version, count in ((first, 10), (second, 20)):
        plan = reader.plan(version)
        assert (len(plan.all_visible), len(plan.straddling)) == (0, 1)
        assert rows_of(plan) == list(range(count))


def test_a_plan_leaves_out_files_of_other_days_and_symbols(catalog: Catalog) -> None:
    version = append_trades(catalog, 30, days=3).version
    reader = VersionReader(catalog)
    day_ns = 86_400 * 10**9
    start = START_US * 1000 // day_ns * day_ns

    assert len(reader.plan(version).all_visible) == 3
    assert len(reader.plan(version, start_ns=start, end_ns=start + day_ns).all_visible) == 1
    assert len(reader.plan(version, start_ns=start + day_ns).all_visible) == 2
    assert len(reader.plan(version, symbols=["ABC", "it's"]).all_visible) == 3
    assert reader.plan(version, symbols=["ZZZ"]).all_visible == ()


def test_an_announced_version_is_known_before_the_catalogue_is_asked(catalog: Catalog) -> None:
    reader = VersionReader(catalog)
    append_trades(catalog, 10)
    assert reader.refresh(T) is not None
    result = append_trades(catalog, 10)
    assert reader.latest(T) != result.version

    reader.note(result.version.to_json())

    assert reader.latest(T) == result.version
    assert rows_of(reader.plan(result.version)) == list(range(20))


def test_an_unknown_number_is_looked_for_in_the_catalogue(catalog: Catalog) -> None:
    append_trades(catalog, 10)
    reader = VersionReader(catalog)
    reader.refresh(T)
    result = append_trades(catalog, 10)

    assert reader.at(T, result.version.number) == result.version


def test_a_purged_version_is_gone(catalog: Catalog) -> None:
    append_trades(catalog, 10)
    head = append_trades(catalog, 10).version
    purged = Version.from_json(
        head.to_json().replace('"gone":[]', '"gone":[[1,1]]').replace('"number":2', '"number":3')
    )
    reader = VersionReader(catalog)
    reader.note(purged.to_json())

    with pytest.raises(VersionGone):
        reader.at(T, 1)
    assert reader.at(T, 2) == head


def test_a_table_without_commits_has_no_version(catalog: Catalog) -> None:
    assert VersionReader(catalog).latest(T) is None
