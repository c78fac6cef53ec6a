"""Main rolled back by another engine: rows come again, what cannot be read any more says so."""

from pathlib import Path

import pytest
from k2common.errors import SetupError
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import CommitResult, Proposal, commit
from k2common.iceberg.commits.expiry import Retention, expire
from k2common.iceberg.reading.reader import VersionGone, VersionReader
from k2common.schemas.datasets import TRADES
from k2common.testing.iceberg import append_trades, folder_catalog, trade_rows
from k2common.versions.version import Version


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    opened = open_catalog(folder_catalog(tmp_path))
    ensure_tables(opened, [TRADES])
    return opened


def roll_back(catalog: Catalog, snapshot_id: int) -> None:
    load_table(catalog, TRADES.table).manage_snapshots().rollback_to_snapshot(snapshot_id).commit()


def foreign_append(catalog: Catalog) -> int:
    table = load_table(catalog, TRADES.table)
    table.append(trade_rows(0, 1, partition=9, upload="foreign").cast(table.schema().as_arrow()))
    snapshot = load_table(catalog, TRADES.table).current_snapshot()
    assert snapshot is not None
    return snapshot.snapshot_id


def same(head: Version | None) -> Version:
    assert head is not None
    return head


@pytest.fixture
def lost(catalog: Catalog) -> CommitResult:
    """A version that main is rolled back from."""
    first, second = append_trades(catalog, 10), append_trades(catalog, 10)
    roll_back(catalog, first.snapshot_id)
    return second


def test_a_version_that_main_was_rolled_back_from_is_gone_at_once_and_for_ever(
    catalog: Catalog, lost: CommitResult
) -> None:
    reader = VersionReader(catalog)
    with pytest.raises(VersionGone):
        reader.plan(lost.version)
    assert append_trades(catalog, 10).version.gone == ((2, 2),)
    reader.refresh(TRADES.table)
    with pytest.raises(VersionGone):
        reader.at(TRADES.table, 2)


def test_maintenance_after_a_rollback_makes_a_version_of_its_own(
    catalog: Catalog, lost: CommitResult
) -> None:
    proposal = Proposal(table=TRADES.table, epoch=0, change=same, same_version=True)
    version = commit(catalog, proposal).version
    assert (version.number, version.offsets, version.gone) == (3, {0: 10}, ((2, 2),))
    assert version.committed_at > lost.version.committed_at


def test_nothing_expires_between_a_rollback_and_the_next_commit(catalog: Catalog, lost: CommitResult) -> None:
    for _ in range(3):
        foreign_append(catalog)
    retention = Retention(live=1, recorded=lambda _: True)
    assert expire(catalog, TRADES.table, retention=retention) == []
    assert append_trades(catalog, 10).version.offsets == {0: 20}
    assert expire(catalog, TRADES.table, retention=retention) != []


def test_a_rollback_to_where_no_version_is_known_stops_the_sink(catalog: Catalog) -> None:
    before, after = foreign_append(catalog), foreign_append(catalog)
    append_trades(catalog, 10)
    table = load_table(catalog, TRADES.table)
    table.maintenance.expire_snapshots().by_ids([before]).commit()
    roll_back(catalog, after)
    with pytest.raises(SetupError, match="rolled back"):
        append_trades(catalog, 10)
