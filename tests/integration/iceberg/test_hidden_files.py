"""A table with many hidden uploads: its versions read the same, and no commit carries them all."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import k2common.iceberg.versions.hidden_files as hidden_files
import pytest
from k2common.errors import DataMissing
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import commit
from k2common.iceberg.files.lru import Recent
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.maintenance.orphan_files import Sweeper
from k2common.iceberg.maintenance.purge import Purge
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import TRADES, VERSIONS
from k2common.testing.iceberg import (
    KEEP_FEW,
    START,
    append_trades,
    folder_catalog,
    record_version,
    trade_rows,
    trades_proposal,
)
from k2common.versions.hidden import AmendedHiddenUploads, HiddenUpload, Reason
from k2common.versions.version import Version

MANY = hidden_files.MOST_IN_DOCUMENT + 50
LOADING = HiddenUpload(reason=Reason.LOADING)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    found = open_catalog(folder_catalog(tmp_path))
    ensure_tables(found, [TRADES, VERSIONS])
    return found


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own."""
    monkeypatch.setattr(hidden_files, "_kept", Recent(limit=32))


def retracted(first: int, count: int) -> dict[str, HiddenUpload]:
    return {f"R{n}": HiddenUpload(reason=Reason.RETRACTED) for n in range(first, first + count)}


def head(catalog: Catalog) -> Version:
    found = head_version(load_table(catalog, TRADES.table))
    assert found is not None
    return found


def files(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("**/hidden/market.trades/*.json"))


def shown(catalog: Catalog, number: int) -> set[str]:
    reader = VersionReader(catalog)
    rows = read_rows(catalog, reader.plan(reader.at(TRADES.table, number)), ("upload_id",))
    return set(rows["upload_id"].to_pylist())


def test_what_is_hidden_for_good_goes_to_a_file_that_many_versions_name(
    catalog: Catalog, tmp_path: Path
) -> None:
    append_trades(catalog, 5, upload="R0")
    append_trades(catalog, 5, upload="SEEN", hidden=retracted(0, MANY) | {"NEW": LOADING})
    append_trades(catalog, 5, upload="NEW", hidden=retracted(0, MANY + 1) | {"NEW": LOADING})
    append_trades(catalog, 5, upload="LAST", hidden=retracted(0, MANY + 1))
    now = head(catalog)
    assert len(files(tmp_path)) == 1
    assert isinstance(now.hidden, AmendedHiddenUploads)
    assert (now.hidden.changes, now.hidden) == (retracted(MANY, 1), retracted(0, MANY + 1))
    assert len(now.to_json()) < 500
    assert [shown(catalog, n) for n in (1, 2, 3, 4)] == [
        {"R0"},
        {"SEEN"},
        {"SEEN"},
        {"SEEN", "NEW", "LAST"},
    ]


def test_a_version_whose_snapshot_has_expired_is_read_by_who_knows_nothing(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, hidden in enumerate([{}, retracted(0, MANY), retracted(0, 2 * MANY), retracted(0, 2 * MANY)]):
        result = append_trades(catalog, 3, upload=f"R{MANY * number}", hidden=hidden, retention=KEEP_FEW)
        record_version(catalog, result)
    for _ in range(30):
        record_version(catalog, append_trades(catalog, 1, upload="MORE", retention=KEEP_FEW))
    compact(catalog, TRADES.table, order=TRADES.order, max_rows=1_000)
    live = {found.version.number for found in VersionReader(catalog).snapshots(TRADES.table)}
    assert live.isdisjoint({1, 2, 3, 4})
    forget(monkeypatch)
    expected = [{"R0"}, {f"R{MANY}"}, {f"R{2 * MANY}"}, {f"R{2 * MANY}", f"R{3 * MANY}"}]
    assert [shown(catalog, n) for n in (1, 2, 3, 4)] == expected
    by_time = VersionReader(catalog).by_time(TRADES.table, datetime.max.replace(tzinfo=UTC))
    assert by_time is not None
    assert by_time.hidden == retracted(0, 2 * MANY)


def test_a_moved_head_has_the_change_applied_to_what_its_file_hides(catalog: Catalog) -> None:
    append_trades(catalog, 5, upload="R0", hidden=retracted(0, MANY))
    proposal = trades_proposal(catalog, trade_rows(5, 5, upload="LATE"), expected=5)
    append_trades(catalog, 0, hidden=retracted(0, MANY + 1))
    version = commit(catalog, proposal).version
    assert version.hidden == head(catalog).hidden == retracted(0, MANY + 1)


def test_no_sweep_takes_the_file_and_a_purge_empties_the_document_again(
    catalog: Catalog, tmp_path: Path
) -> None:
    append_trades(catalog, 5, upload="R0", hidden=retracted(0, MANY))
    append_trades(catalog, 5, upload="SEEN", hidden=retracted(0, MANY) | {"NEW": LOADING})
    (file,) = files(tmp_path)
    sweeper = Sweeper(catalog, TRADES.table, guard=timedelta(0))
    later = datetime.now(UTC) + timedelta(days=1)
    for _ in range(2):
        sweeper.sweep(now=later)
    assert files(tmp_path) == [file]
    purge = Purge(catalog, TRADES.table, reader=VersionReader(catalog), order=TRADES.order, max_rows=1_000)
    purged = purge.run(hidden_since=START + timedelta(days=1), now=later)
    assert (len(purged.uploads), purged.rows) == (MANY, 5)
    assert head(catalog).hidden == {"NEW": LOADING}
    assert not isinstance(head(catalog).hidden, AmendedHiddenUploads)
    assert shown(catalog, head(catalog).number) == {"SEEN"}


def test_a_store_that_lost_the_file_stops_who_needs_it_and_shows_nothing_wrong(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_trades(catalog, 5, upload="R0", hidden=retracted(0, MANY))
    (file,) = files(tmp_path)
    file.unlink()
    forget(monkeypatch)
    with pytest.raises(DataMissing, match=r"market\.trades"):
        shown(catalog, 1)
    with pytest.raises(DataMissing, match=r"market\.trades"):
        append_trades(catalog, 5, upload="MORE", hidden={})
