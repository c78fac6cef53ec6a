"""Compaction, purge and sweeping on a real catalogue: rows stay what they were, also beside a sink."""

import multiprocessing
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import k2common.iceberg.maintenance.compaction as compaction
import k2common.iceberg.maintenance.orphan_files as orphans
import k2common.iceberg.maintenance.rewrite as rewriting
import pyarrow as pa
import pytest
from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.expiry import Retention, expire
from k2common.iceberg.maintenance.compaction import choose, compact
from k2common.iceberg.maintenance.orphan_files import Sweeper, Swept, referenced
from k2common.iceberg.maintenance.purge import Purge
from k2common.iceberg.maintenance.rewrite import (
    Bounds,
    ForeignDeletes,
    Proof,
    ProofFailed,
    live_files,
    rewrite,
)
from k2common.iceberg.reading.reader import VersionGone, VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import TRADES
from k2common.testing.iceberg import (
    KEEP_FEW,
    START,
    append_trades,
    folder_catalog,
    sink_in_process,
    trade_rows,
    trades_proposal,
)
from k2common.versions.hidden import HiddenUpload, Reason
from pyarrow.fs import FileInfo, FileSelector
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table
from pyiceberg.types import ListType, StringType

SERVER = multiprocessing.get_context("forkserver")
COLUMNS = ("upload_id", "line", "price", "kafka_offset")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    found = open_catalog(folder_catalog(tmp_path))
    ensure_tables(found)
    return found


def path_of(location: str) -> str:
    return location.removeprefix("file://")


def bounds(rows: int) -> Bounds:
    return Bounds(rows=rows, bytes=2**30)


def rows_of(catalog: Catalog, number: int) -> list[dict[str, object]]:
    reader = VersionReader(catalog)
    rows = read_rows(catalog, reader.plan(reader.at(TRADES.table, number)), COLUMNS)
    return sorted(rows.to_pylist(), key=lambda row: int(row["kafka_offset"]))


def test_compaction_keeps_every_version_and_says_what_it_proved(catalog: Catalog) -> None:
    uploads = [f"U{n}" for n in range(20)]
    for number, upload in enumerate(uploads):
        hidden = {uploads[number - 1]: HiddenUpload(reason=Reason.RETRACTED)} if number % 3 == 2 else None
        append_trades(catalog, 50, upload=upload, days=2, hidden=hidden)
    before = {number: rows_of(catalog, number) for number in range(1, 21)}
    files = len(live_files(load_table(catalog, TRADES.table)))

    done = compact(catalog, TRADES.table, order=TRADES.order, max_rows=100_000)

    table = load_table(catalog, TRADES.table)
    assert (done.files, done.groups) == (files, 2)
    assert len(live_files(table)) == 2
    head = head_version(table)
    assert head is not None
    assert head.number == 20
    assert {number: rows_of(catalog, number) for number in range(1, 21)} == before
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    said = snapshot.summary.additional_properties
    assert said["k2.digest-before"] == said["k2.digest-after"]
    assert said["total-records"] == "1000"
    assert snapshot.summary.operation.value == "replace"
    # The sink goes on from there.
    assert append_trades(catalog, 5).version.number == 21
    shown = [row["kafka_offset"] for row in rows_of(catalog, 21)]
    assert shown == [n for n in range(1005) if not 800 <= n < 850]


def test_rows_that_changed_on_the_way_refuse_the_commit(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(8):
        append_trades(catalog, 5)
    head = load_table(catalog, TRADES.table).metadata.current_snapshot_id
    real = rewriting.sorted_rows

    def spoiled(rows: pa.Table, order: object) -> pa.Table:
        found = real(rows, TRADES.order)
        return found.set_column(found.column_names.index("line"), "line", pa.array(range(len(found))))

    monkeypatch.setattr(rewriting, "sorted_rows", spoiled)
    with pytest.raises(ProofFailed):
        compact(catalog, TRADES.table, order=TRADES.order, max_rows=1000)
    assert load_table(catalog, TRADES.table).metadata.current_snapshot_id == head


@pytest.mark.parametrize("column", trade_rows(0, 1).column_names)
def test_the_proof_sees_every_column_and_no_order(column: str) -> None:
    rows = trade_rows(0, 40, days=2)
    assert Proof.of(rows) == Proof.of(rows.take(pa.array(reversed(range(40)))))
    kind = rows[column].type
    other = pa.nulls(1, kind) if rows[column].null_count == 0 else pa.array([7], pa.int64())
    if pa.types.is_string(kind):
        other = pa.array(["other"])
    changed = pa.chunked_array([*rows[column].slice(0, 39).chunks, other.cast(kind)])
    at = rows.column_names.index(column)
    assert Proof.of(rows.set_column(at, rows.schema.field(column).with_nullable(True), changed)) != Proof.of(
        rows
    )


def test_a_row_is_rewritten_once_per_tier(catalog: Catalog) -> None:
    rewritten = 0
    for _ in range(64):
        append_trades(catalog, 3, retention=KEEP_FEW)
        rewritten += compact(catalog, TRADES.table, order=TRADES.order, max_rows=10_000).rows
    rewritten += compact(catalog, TRADES.table, order=TRADES.order, max_rows=10_000).rows
    files = live_files(load_table(catalog, TRADES.table))
    assert len(files) < 8
    assert rewritten <= 64 * 3 * 3
    assert choose(files, bounds=bounds(10_000)) == []


def test_a_head_that_was_seen_is_not_looked_through_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_trades(catalog, 3)
    seen = compact(catalog, TRADES.table, order=TRADES.order, max_rows=100).seen
    assert seen == load_table(catalog, TRADES.table).metadata.current_snapshot_id
    with monkeypatch.context() as patched:
        patched.setattr(compaction, "live_files", None)
        assert compact(catalog, TRADES.table, order=TRADES.order, max_rows=100, seen=seen).seen == seen
    for _ in range(7):
        append_trades(catalog, 3)
    done = compact(catalog, TRADES.table, order=TRADES.order, max_rows=100, seen=seen)
    assert (done.files, done.seen) == (8, None)


def test_compaction_and_sweeping_beside_two_sinks_lose_and_double_nothing(
    catalog: Catalog, tmp_path: Path
) -> None:
    sinks = [
        SERVER.Process(
            target=sink_in_process,
            args=(str(tmp_path),),
            kwargs={"commits": 25, "rows": 7, "partition": partition},
            daemon=True,
        )
        for partition in (0, 1)
    ]
    for sink in sinks:
        sink.start()
    merged = swept = 0
    # Rows, files and commits of these sinks take far less than the guard.
    sweeper = Sweeper(catalog, TRADES.table, guard=timedelta(seconds=10))
    while any(sink.is_alive() for sink in sinks):
        with suppress(TransientError):  # it lost every race
            merged += compact(
                catalog, TRADES.table, order=TRADES.order, max_rows=10_000, retention=KEEP_FEW
            ).files
        swept += sweeper.sweep(now=datetime.now(UTC)).deleted
    assert [sink.exitcode for sink in sinks] == [0, 0]
    merged += compact(catalog, TRADES.table, order=TRADES.order, max_rows=10_000).files
    assert merged >= 8
    table = load_table(catalog, TRADES.table)
    rows = table.scan(selected_fields=("kafka_partition", "kafka_offset")).to_arrow()
    places = sorted(zip(rows["kafka_partition"].to_pylist(), rows["kafka_offset"].to_pylist(), strict=True))
    assert places == [(partition, offset) for partition in (0, 1) for offset in range(175)]


def test_files_that_nothing_names_go_once_nothing_can_use_them(catalog: Catalog) -> None:
    for _ in range(10):
        append_trades(catalog, 5, retention=KEEP_FEW)
    # A commit that was lost after its files were written.
    proposal = trades_proposal(catalog, trade_rows(50, 5), expected=50)
    lost = {path_of(file.file_path) for file in proposal.files}
    now = datetime.now(UTC) + timedelta(days=1)
    hour = timedelta(hours=1)
    sweeper = Sweeper(catalog, TRADES.table, guard=hour)
    assert sweeper.sweep(now=now).deleted == 0
    assert sweeper.sweep(now=now + hour / 2).deleted == 0
    # Old files, but only now nobody needs them any more: a reader may be in the middle of them.
    compact(catalog, TRADES.table, order=TRADES.order, max_rows=1000)
    expire(catalog, TRADES.table, retention=Retention(live=1, recorded=lambda _: True))
    root = Path(path_of(load_table(catalog, TRADES.table).location()))
    before = {path for path in root.rglob("*") if path.is_file()}
    trial = sweeper.sweep(now=now + hour, dry_run=True)
    assert trial.unreferenced > trial.deleted > 0
    assert {path for path in root.rglob("*") if path.is_file()} == before
    assert sweeper.sweep(now=now + hour).deleted == trial.deleted
    gone = {str(path) for path in before if not path.exists()}
    assert lost <= gone
    assert len([path for path in gone if path.endswith(".parquet")]) == len(lost)
    assert sweeper.sweep(now=now + 2 * hour).deleted == trial.unreferenced - trial.deleted
    left = {str(path) for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert left <= {path_of(path) for path in referenced(load_table(catalog, TRADES.table))}
    assert [row["kafka_offset"] for row in rows_of(catalog, 10)] == list(range(50))
    assert sweeper.sweep(now=now + 9 * hour) == Swept()


def test_a_folder_that_comes_while_it_is_looked_for_is_swept_the_next_time(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper = Sweeper(catalog, TRADES.table, guard=timedelta(hours=1))

    def missed(selector: FileSelector) -> list[FileInfo]:
        # Arrow opens the folder, which is not there, then asks whether it is, and now it is.
        raise FileNotFoundError(selector.base_dir)

    with monkeypatch.context() as patched:
        filesystem = SimpleNamespace(get_file_info=missed)
        patched.setattr(orphans, "_filesystem", lambda table: (filesystem, path_of(table.location())))
        assert sweeper.sweep(now=datetime.now(UTC)) == Swept()
    append_trades(catalog, 5)
    (Path(path_of(load_table(catalog, TRADES.table).location())) / "data" / "unnamed.parquet").touch()
    assert sweeper.sweep(now=datetime.now(UTC)).unreferenced == 1


def test_two_sweeps_at_once_are_harmless(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(4):
        append_trades(catalog, 5, retention=KEEP_FEW)
        compact(catalog, TRADES.table, order=TRADES.order, max_rows=1000, fan_in=2, retention=KEEP_FEW)
    now = datetime.now(UTC) + timedelta(days=1)
    first, second = (Sweeper(catalog, TRADES.table, guard=timedelta()) for _ in range(2))
    real = orphans.referenced
    found: list[int] = []

    def slow(table: Table) -> frozenset[str]:
        # The second sweep does all its work between the first one's listing and its deleting.
        monkeypatch.setattr(orphans, "referenced", real)
        found.append(second.sweep(now=now).deleted)
        return real(table)

    monkeypatch.setattr(orphans, "referenced", slow)
    assert first.sweep(now=now).deleted == 0
    assert found[0] > 0
    assert len(rows_of(catalog, 4)) == 20


def test_files_of_an_older_schema_and_rows_of_another_engine_are_merged(catalog: Catalog) -> None:
    for _ in range(4):
        append_trades(catalog, 5)
    table = load_table(catalog, TRADES.table)
    stranger = trade_rows(0, 5)
    for name in ("kafka_epoch", "kafka_partition", "kafka_offset"):
        at = stranger.column_names.index(name)
        stranger = stranger.set_column(at, name, pa.nulls(5, stranger[name].type))
    table.append(stranger.cast(schema_to_pyarrow(table.schema())))
    with table.update_schema() as update:
        update.add_column("note", StringType())
        update.add_column("marks", ListType(99, StringType(), element_required=False))
    files = live_files(load_table(catalog, TRADES.table))
    assert compact(catalog, TRADES.table, order=TRADES.order, max_rows=1000, fan_in=5).files == 5
    table = load_table(catalog, TRADES.table)
    assert table.scan().count() == 25
    assert table.scan(selected_fields=("note",)).to_arrow()["note"].null_count == 25
    # A row without a place in Kafka belongs to no version, so the file is read with the rule.
    reader = VersionReader(catalog)
    plan = reader.plan(reader.at(TRADES.table, 4))
    assert (plan.all_visible, len(plan.straddling)) == ((), 1)
    assert len(files) == 5
    rows = read_rows(catalog, plan, COLUMNS)
    assert sorted(rows["kafka_offset"].to_pylist()) == list(range(20))


def test_what_is_beyond_the_bounds_is_rewritten_piece_by_piece(catalog: Catalog) -> None:
    append_trades(catalog, 70_000)
    table = load_table(catalog, TRADES.table)
    rewritten = rewrite(live_files(table), table=table, order=TRADES.order, bounds=bounds(40_000))
    assert [file.record_count for file in rewritten.files] == [32_768, 37_232]
    assert rewritten.before == rewritten.after
    tight = Bounds(rows=10**9, bytes=2 * live_files(table)[0].file_size_in_bytes)
    assert choose(live_files(table) * 8, bounds=tight) == []


def test_manifests_that_only_say_what_left_are_not_carried_on(catalog: Catalog) -> None:
    for _ in range(24):
        append_trades(catalog, 5)
        compact(catalog, TRADES.table, order=TRADES.order, max_rows=1000)
    append_trades(catalog, 5)
    table = load_table(catalog, TRADES.table)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert len(snapshot.manifests(table.io)) <= len(live_files(table))


def test_a_purge_deletes_for_good_and_names_the_versions_that_are_gone(catalog: Catalog) -> None:
    hour = timedelta(hours=1)
    kept, taken = "KEPT", "TAKEN"
    loading = {taken: HiddenUpload(reason=Reason.LOADING)}
    retracted = {taken: HiddenUpload(reason=Reason.RETRACTED)}
    append_trades(catalog, 10, upload=kept, now=START)
    append_trades(catalog, 10, upload=taken, hidden=loading, now=START + hour)
    append_trades(catalog, 0, hidden={}, now=START + 2 * hour)
    append_trades(catalog, 5, upload=kept, now=START + 3 * hour)
    append_trades(catalog, 0, hidden=retracted, now=START + 4 * hour)
    append_trades(catalog, 5, upload=kept, now=START + 5 * hour)
    before = {number: rows_of(catalog, number) for number in (1, 2, 5, 6)}
    work = Purge(catalog, TRADES.table, reader=VersionReader(catalog), order=TRADES.order, max_rows=100)
    # Not hidden for long enough.
    assert work.run(hidden_since=START + 3 * hour, now=START + 6 * hour).uploads == frozenset()
    trial = work.run(hidden_since=START + 4 * hour, now=START + 6 * hour, dry_run=True)
    assert (trial.uploads, trial.spans, trial.results) == ({taken}, ((3, 4),), ())
    done = work.run(hidden_since=START + 4 * hour, now=START + 6 * hour)
    assert (done.rows, done.spans) == (10, ((3, 4),))
    rows = load_table(catalog, TRADES.table).scan(selected_fields=("upload_id",)).to_arrow()
    assert set(rows["upload_id"].to_pylist()) == {kept}
    head = head_version(load_table(catalog, TRADES.table))
    assert head is not None
    assert (head.number, head.gone, dict(head.hidden)) == (7, ((3, 4),), {})
    assert {number: rows_of(catalog, number) for number in (1, 2, 5, 6)} == before
    for number in (3, 4):
        with pytest.raises(VersionGone):
            rows_of(catalog, number)
    assert work.run(hidden_since=START + 9 * hour, now=START + 9 * hour).uploads == frozenset()
    # Another upload, which was seen by versions that are gone already as well.
    append_trades(catalog, 0, hidden={kept: HiddenUpload(reason=Reason.REPLACED)}, now=START + 10 * hour)
    done = work.run(hidden_since=START + 10 * hour, now=START + 11 * hour)
    assert (done.rows, done.spans) == (20, ((1, 7),))
    assert live_files(load_table(catalog, TRADES.table)) == []
    assert rows_of(catalog, 9) == []


def test_an_upload_without_rows_is_forgotten_by_a_purge(catalog: Catalog) -> None:
    append_trades(catalog, 5, upload="KEPT")
    append_trades(catalog, 0, hidden={"ROWLESS": HiddenUpload(reason=Reason.CANCELLED)}, now=START)
    work = Purge(catalog, TRADES.table, reader=VersionReader(catalog), order=TRADES.order, max_rows=100)
    done = work.run(hidden_since=START + timedelta(hours=1), now=START + timedelta(hours=1))
    assert (done.rows, done.spans, len(done.results)) == (0, (), 1)
    head = head_version(load_table(catalog, TRADES.table))
    assert head is not None
    assert dict(head.hidden) == {}
    assert len(rows_of(catalog, 1)) == len(rows_of(catalog, 3)) == 5


def test_a_warehouse_that_is_away_is_no_reason_to_end(catalog: Catalog, tmp_path: Path) -> None:
    append_trades(catalog, 10)
    away = tmp_path / "market.away"
    (tmp_path / "market").rename(away)
    with pytest.raises(TransientError):
        compact(catalog, TRADES.table, order=TRADES.order, max_rows=100)
    away.rename(tmp_path / "market")
    assert len(live_files(load_table(catalog, TRADES.table))) == 1


def test_deletes_of_another_engine_are_not_undone_by_compaction(catalog: Catalog) -> None:
    append_trades(catalog, 10)
    table = load_table(catalog, TRADES.table)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    entries = snapshot.manifests(table.io)[0].fetch_manifest_entry(table.io)
    deletes = SimpleNamespace(
        content="deletes",
        manifest_path=uuid4().hex,
        fetch_manifest_entry=lambda *_, **__: entries,
    )
    head = SimpleNamespace(manifests=lambda _: [deletes], manifest_list=snapshot.manifest_list)
    table.current_snapshot = lambda: head  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(ForeignDeletes):
        live_files(table)
