"""Manifests are parsed once, and written once however often a commit is tried."""

from collections import Counter
from pathlib import Path
from typing import Any

import k2common.iceberg.files.snapshot_writer as snapshots
import pytest
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.maintenance.orphan_files import referenced
from k2common.iceberg.maintenance.rewrite import live_files
from k2common.schemas.datasets import TRADES
from k2common.testing.iceberg import KEEP_FEW, append_trades, folder_catalog
from pyiceberg.manifest import ManifestFile


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    found = open_catalog(folder_catalog(tmp_path))
    ensure_tables(found, [TRADES])
    return found


def test_the_manifest_of_a_commit_is_parsed_once(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: Counter[str] = Counter()
    fetch = ManifestFile.fetch_manifest_entry

    def counted(manifest: ManifestFile, *arguments: Any, **options: Any) -> Any:
        parsed[manifest.manifest_path] += 1
        return fetch(manifest, *arguments, **options)

    monkeypatch.setattr(ManifestFile, "fetch_manifest_entry", counted)
    for _ in range(3):
        for _ in range(8):
            append_trades(catalog, 3, retention=KEEP_FEW)
        compact(catalog, TRADES.table, order=TRADES.order, max_rows=10_000)
        referenced(load_table(catalog, TRADES.table))
    assert sum(parsed.values()) >= 24
    assert set(parsed.values()) == {1}


def test_a_compaction_that_lost_a_race_takes_the_manifests_that_it_has_written(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(8):
        append_trades(catalog, 3)
    written: list[int] = []
    write = snapshots.write_entries
    real = catalog.commit_table

    def counted(entries: Any, **options: Any) -> list[ManifestFile]:
        written.append(len(entries))
        return write(entries, **options)

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(catalog, "commit_table", real)
        append_trades(catalog, 3)
        return real(*arguments)

    monkeypatch.setattr(snapshots, "write_entries", counted)
    monkeypatch.setattr(catalog, "commit_table", overtaken)
    assert compact(catalog, TRADES.table, order=TRADES.order, max_rows=10_000).files == 8
    # What left, what came, and what the sink that was faster brought.
    assert written == [8, 1, 1]
    table = load_table(catalog, TRADES.table)
    assert sorted(table.scan().to_arrow()["kafka_offset"].to_pylist()) == list(range(27))
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.additional_properties["total-data-files"] == "2"
    assert len(live_files(table)) == 2
    new = [m for m in snapshot.manifests(table.io) if m.added_snapshot_id == snapshot.snapshot_id]
    assert {m.sequence_number for m in new} == {snapshot.sequence_number}
