"""Work on tables never copies damage into a new file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from k2common.errors import DataDamaged, DataMissing
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.files.digests import digest_in
from k2common.iceberg.files.verification import FileVerifier
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.maintenance.purge import Purge
from k2common.iceberg.maintenance.rewrite import live_files
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.schemas.datasets import TRADES
from k2common.testing.iceberg import append_trades, folder_catalog, record_version
from k2common.versions.hidden import HiddenUpload, Reason

from tests.integration.damage.flips import data_files, flipped, missing

MERGE: dict[str, Any] = {"order": TRADES.order, "max_rows": 10_000, "fan_in": 2}
COLUMNS = ("upload_id", "line", "price")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    found = open_catalog(folder_catalog(tmp_path))
    ensure_tables(found)
    return found


def test_every_file_that_is_written_is_named_by_its_digest(catalog: Catalog) -> None:
    append_trades(catalog, 10, days=2)
    table = load_table(catalog, TRADES.table)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    paths = [file.file_path for file in live_files(table)]
    paths += [snapshot.manifest_list, *(m.manifest_path for m in snapshot.manifests(table.io))]
    assert len(paths) == 4
    assert all(digest_in(path) is not None for path in paths)


def test_compaction_leaves_damage_where_it_is_and_merges_the_rest(catalog: Catalog) -> None:
    for _ in range(2):
        append_trades(catalog, 10, days=2)
    damaged = data_files(catalog, TRADES.table)[0]
    random = Random(5)
    for _ in range(30):
        with flipped(damaged, random), pytest.raises(DataDamaged):
            compact(catalog, TRADES.table, **MERGE)
        left = [file.file_path for file in live_files(load_table(catalog, TRADES.table))]
        assert f"file://{damaged}" in left
        assert len(left) == 3, "the other day is merged"
    with missing(damaged), pytest.raises(DataMissing):
        compact(catalog, TRADES.table, **MERGE)
    compact(catalog, TRADES.table, **MERGE)
    assert len(live_files(load_table(catalog, TRADES.table))) == 2


def test_purge_refuses_a_damaged_file(catalog: Catalog) -> None:
    gone = {"U1": HiddenUpload(reason=Reason.RETRACTED)}
    record_version(catalog, append_trades(catalog, 10, upload="U1"))
    record_version(catalog, append_trades(catalog, 10, upload="U2", hidden=gone))
    purge = Purge(catalog, TRADES.table, reader=VersionReader(catalog), order=TRADES.order, max_rows=10_000)
    later = datetime(2030, 1, 1, tzinfo=UTC)
    for path in data_files(catalog, TRADES.table):
        holds_purged = "U1" in path.read_bytes().decode("latin-1")
        with flipped(path, Random(2)):
            if holds_purged:
                with pytest.raises(DataDamaged):
                    purge.run(hidden_since=later, now=later)
    rows = sum(file.record_count for file in live_files(load_table(catalog, TRADES.table)))
    assert rows == 20


def test_a_verdict_holds_for_its_time_and_no_longer_than_the_file_is_as_it_was(catalog: Catalog) -> None:
    version = append_trades(catalog, 10).version
    clock = [0.0]
    read: list[str] = []
    verifier = FileVerifier(verdict_seconds=100, monotonic=lambda: clock[0], report=lambda _: None)
    reader = VersionReader(catalog, verifier=verifier)
    plan = reader.plan(version)
    table = load_table(catalog, TRADES.table)
    opened = table.io.new_input

    def counted(location: str) -> Any:
        read.append(location)
        return opened(location)

    table.io.new_input = counted
    check: dict[str, Any] = {"io": table.io, "table": TRADES.table}
    for seconds, reads in ((0.0, 1), (99.0, 1), (100.0, 2), (199.0, 2)):
        clock[0] = seconds
        verifier.verify(plan.paths, **check)
        assert len(read) == reads
    (path,) = data_files(catalog, TRADES.table)
    with flipped(path, Random(1)), pytest.raises(DataDamaged):
        read_rows(catalog, plan, COLUMNS)
    assert read_rows(catalog, plan, COLUMNS).num_rows == 10
