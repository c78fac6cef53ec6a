"""Compaction, purge and sweeping on a real catalogue: rows stay what they were, also beside a sink."""

import multiprocessing
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import k2common.iceberg.rewriting as rewriting
import pyarrow as pa
import pytest
from k2common.errors import TransientError
from k2common.iceberg.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.compaction import choose, compact
from k2common.iceberg.documents import head_version
from k2common.iceberg.orphans import collect, referenced
from k2common.iceberg.purging import Purge
from k2common.iceberg.reader import VersionGone, VersionReader
from k2common.iceberg.rewriting import Proof, ProofFailed, live_files
from k2common.iceberg.rows import read_rows
from k2common.iceberg.tables import ensure_tables
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
from k2common.versions import Hidden, Reason

SERVER = multiprocessing.get_context("forkserver")
COLUMNS = ("upload_id", "line", "price", "kafka_offset")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    found = open_catalog(folder_catalog(tmp_path))
    ensure_tables(found)
    return found


def rows_of(catalog: Catalog, number: int) -> list[dict[str, object]]:
    reader = VersionReader(catalog)
    rows = read_rows(catalog, reader.plan(reader.at(TRADES.table, number)), COLUMNS)
    return sorted(rows.to_pylist(), key=lambda row: int(row["kafka_offset"]))


def test_compaction_keeps_every_version_and_says_what_it_proved(catalog: Catalog) -> None:
    uploads = [f"U{n}" for n in range(20)]
    for number, upload in enumerate(uploads):
        hidden = {uploads[number - 1]: Hidden(reason=Reason.RETRACTED)} if number % 3 == 2 else None
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
    assert choose(files, max_rows=10_000) == []


def test_compaction_and_sweeping_beside_two_sinks_lose_and_double_nothing(
    catalog: Catalog, tmp_path: Path
) -> None:
    sinks = [
        SERVER.Process(
            target=sink_in_process,
            args=(str(tmp_path),),
            kwargs={"commits": 60, "rows": 7, "partition": partition},
            daemon=True,
        )
        for partition in (0, 1)
    ]
    for sink in sinks:
        sink.start()
    merged = 0
    while any(sink.is_alive() for sink in sinks):
        with suppress(TransientError):  # it lost every race
            merged += compact(
                catalog, TRADES.table, order=TRADES.order, max_rows=10_000, retention=KEEP_FEW
            ).files
        collect(catalog, TRADES.table, before=datetime.now(UTC) - timedelta(seconds=20))
    assert [sink.exitcode for sink in sinks] == [0, 0]
    assert merged > 16
    table = load_table(catalog, TRADES.table)
    rows = table.scan(selected_fields=("kafka_partition", "kafka_offset")).to_arrow()
    places = sorted(zip(rows["kafka_partition"].to_pylist(), rows["kafka_offset"].to_pylist(), strict=True))
    assert places == [(partition, offset) for partition in (0, 1) for offset in range(420)]


def test_files_that_nothing_names_go_once_they_are_old(catalog: Catalog, tmp_path: Path) -> None:
    for _ in range(10):
        append_trades(catalog, 5, retention=KEEP_FEW)
    # A commit that was lost after its files were written.
    proposal = trades_proposal(catalog, trade_rows(50, 5), expected=50)
    lost = {file.file_path.removeprefix("file://") for file in proposal.files}
    compact(catalog, TRADES.table, order=TRADES.order, max_rows=1000, retention=KEEP_FEW)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    assert collect(catalog, TRADES.table, before=long_ago) == []
    root = Path(load_table(catalog, TRADES.table).location().removeprefix("file://"))
    for path in root.rglob("*"):
        os.utime(path, (long_ago.timestamp() - 60,) * 2)
    assert lost <= set(collect(catalog, TRADES.table, before=long_ago, dry_run=True))
    gone = collect(catalog, TRADES.table, before=long_ago)
    assert lost <= set(gone)
    left = {str(path) for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")}
    known = {path.removeprefix("file://") for path in referenced(load_table(catalog, TRADES.table))}
    assert left <= known
    assert [row["kafka_offset"] for row in rows_of(catalog, 10)] == list(range(50))
    assert collect(catalog, TRADES.table, before=datetime.now(UTC)) == []


def test_a_purge_deletes_for_good_and_names_the_versions_that_are_gone(catalog: Catalog) -> None:
    hour = timedelta(hours=1)
    kept, taken = "KEPT", "TAKEN"
    loading = {taken: Hidden(reason=Reason.LOADING)}
    retracted = {taken: Hidden(reason=Reason.RETRACTED)}
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
