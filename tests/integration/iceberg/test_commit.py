"""Each offset is in the table once, whatever happens between two commits."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from k2common.errors import Fenced, TransientError
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import Proposal, commit
from k2common.iceberg.commits.expiry import Retention, expire
from k2common.iceberg.versions.documents import COMMIT_ID_KEY, STATE_TAG, entry, head_version
from k2common.schemas.datasets import TRADES
from k2common.testing.iceberg import append_trades, folder_catalog, trade_rows, trades_proposal
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import InputFile
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import CommitTableResponse
from pyiceberg.table.metadata import TableMetadata

NO_ROWS = trade_rows(0, 0)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    opened = open_catalog(folder_catalog(tmp_path))
    ensure_tables(opened, [TRADES])
    return opened


def offsets(catalog: Catalog, partition: int = 0) -> list[int]:
    rows = load_table(catalog, TRADES.table).scan().to_arrow()
    return sorted(
        rows.filter(pa.compute.equal(rows["kafka_partition"], partition))["kafka_offset"].to_pylist()
    )


class LostResponse:
    """The catalogue commits and the answer is lost."""

    def __init__(self, catalog: Catalog, error: Exception) -> None:
        self._commit, self._error, self.calls = catalog.commit_table, error, 0

    def __call__(self, *arguments: object) -> CommitTableResponse:
        self.calls += 1
        response = self._commit(*arguments)  # type: ignore[arg-type]
        if self.calls == 1:
            raise self._error
        return response


def foreign_append(catalog: Catalog) -> None:
    """Another engine writes: no version, no commit id, and rows that never were in Kafka."""
    table = load_table(catalog, TRADES.table)
    table.append(trade_rows(0, 1, partition=9, upload="foreign").cast(table.schema().as_arrow()))


def test_a_commit_carries_version_id_and_tag(catalog: Catalog) -> None:
    result = append_trades(catalog, 10)

    table = load_table(catalog, TRADES.table)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.snapshot_id == result.snapshot_id
    assert table.metadata_location == result.metadata_location
    assert table.metadata.refs[STATE_TAG].snapshot_id == result.snapshot_id
    assert entry(snapshot, "k2.kafka-cluster") == "test"
    assert entry(snapshot, COMMIT_ID_KEY)
    assert head_version(table) == result.version
    assert (result.version.number, result.version.offsets) == (1, {0: 10})
    assert offsets(catalog) == list(range(10))


@pytest.mark.parametrize(
    "error", [TimeoutError("no answer"), CommitFailedException("retried by a proxy: conflict with itself")]
)
def test_a_lost_response_does_not_double_the_rows(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    append_trades(catalog, 10)
    lost = LostResponse(catalog, error)
    monkeypatch.setattr(catalog, "commit_table", lost)

    result = append_trades(catalog, 10)

    assert lost.calls == 1
    assert result.version.offsets == {0: 20}
    assert offsets(catalog) == list(range(20))


def test_a_proposal_tried_again_after_it_landed_is_the_same_commit(catalog: Catalog) -> None:
    proposal = trades_proposal(catalog, trade_rows(0, 10), expected=None)

    first, second = commit(catalog, proposal), commit(catalog, proposal)

    assert (first.version, first.snapshot_id) == (second.version, second.snapshot_id)
    assert offsets(catalog) == list(range(10))


def test_an_owner_that_started_from_old_offsets_is_fenced(catalog: Catalog) -> None:
    append_trades(catalog, 10)
    stale = trades_proposal(catalog, trade_rows(10, 5), expected=10)
    append_trades(catalog, 10)

    with pytest.raises(Fenced):
        commit(catalog, stale)
    assert offsets(catalog) == list(range(20))


def test_two_owners_of_an_empty_table_do_not_both_write(catalog: Catalog) -> None:
    late = trades_proposal(catalog, trade_rows(0, 5), expected=None)
    append_trades(catalog, 10)

    with pytest.raises(Fenced):
        commit(catalog, late)


def test_an_owner_of_an_older_epoch_is_fenced(catalog: Catalog) -> None:
    append_trades(catalog, 10)
    head = head_version(load_table(catalog, TRADES.table))
    assert head is not None
    proposal = Proposal(table=TRADES.table, epoch=-1, change=lambda _: head)

    with pytest.raises(Fenced):
        commit(catalog, proposal)


def test_a_moved_head_has_the_change_applied_to_its_own_document(catalog: Catalog) -> None:
    append_trades(catalog, 10)
    other = trades_proposal(catalog, trade_rows(0, 5, partition=1), expected=None, partition=1)
    append_trades(catalog, 10)

    result = commit(catalog, other)

    assert (result.version.number, result.version.offsets) == (3, {0: 20, 1: 5})


def test_a_commit_that_lost_the_race_at_the_catalogue_is_built_anew(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_trades(catalog, 10)
    proposal = trades_proposal(catalog, trade_rows(0, 5, partition=1), expected=None, partition=1)
    real = catalog.commit_table

    def overtaken(*arguments: object) -> CommitTableResponse:
        monkeypatch.setattr(catalog, "commit_table", real)
        append_trades(catalog, 10)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog, "commit_table", overtaken)
    result = commit(catalog, proposal)

    assert (result.version.number, result.version.offsets) == (3, {0: 20, 1: 5})
    assert result.tries == 2
    assert offsets(catalog) == list(range(20))
    assert offsets(catalog, partition=1) == list(range(5))
    # Deletes of other engines go by the sequence number, which is that of the try that landed.
    table = load_table(catalog, TRADES.table)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    own = [m for m in snapshot.manifests(table.io) if m.added_snapshot_id == result.snapshot_id]
    assert [(m.sequence_number, m.min_sequence_number) for m in own] == [(snapshot.sequence_number,) * 2]


def test_a_commit_says_what_the_files_of_the_table_hold(catalog: Catalog) -> None:
    append_trades(catalog, 10)
    foreign_append(catalog)
    proposal = trades_proposal(catalog, trade_rows(10, 5), expected=10)
    result, again = commit(catalog, proposal), commit(catalog, proposal)
    totals = result.totals
    assert totals is not None
    sizes = [task.file.file_size_in_bytes for task in load_table(catalog, TRADES.table).scan().plan_files()]
    assert (totals.rows, totals.files, totals.bytes) == (16, 3, sum(sizes))
    assert (totals.removed, totals.snapshots, result.tries) == (0, 3, 1)
    assert again == result


def test_a_commit_without_rows_makes_a_version(catalog: Catalog) -> None:
    append_trades(catalog, 10)

    result = commit(catalog, trades_proposal(catalog, NO_ROWS, expected=None))

    assert (result.version.number, result.version.offsets) == (2, {0: 10})
    assert offsets(catalog) == list(range(10))


def test_a_catalogue_that_never_answers_is_a_transient_failure(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposal = trades_proposal(catalog, trade_rows(0, 5), expected=None)

    def silent(*_: object) -> CommitTableResponse:
        raise TimeoutError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(catalog, "commit_table", silent)
        with pytest.raises(TransientError, match="3 attempts"):
            commit(catalog, proposal, attempts=3)

    assert commit(catalog, proposal).version.offsets == {0: 5}
    assert offsets(catalog) == list(range(5))


def test_another_engines_commits_change_no_version(catalog: Catalog) -> None:
    before = append_trades(catalog, 10).version
    foreign_append(catalog)

    assert head_version(load_table(catalog, TRADES.table)) == before
    assert append_trades(catalog, 10).version.number == 2
    assert offsets(catalog) == list(range(20))


def test_another_engines_commits_and_expiry_do_not_lose_the_offsets(catalog: Catalog) -> None:
    append_trades(catalog, 10)
    for _ in range(3):
        foreign_append(catalog)
    table = load_table(catalog, TRADES.table)
    kept = {ref.snapshot_id for ref in table.metadata.refs.values()}
    table.maintenance.expire_snapshots().by_ids(
        [s.snapshot_id for s in table.snapshots() if s.snapshot_id not in kept]
    ).commit()

    result = append_trades(catalog, 10)

    assert (result.version.number, result.version.offsets) == (2, {0: 20})
    assert offsets(catalog) == list(range(20))


def test_after_a_rollback_the_rows_are_read_again_under_new_numbers(catalog: Catalog) -> None:
    first = append_trades(catalog, 10)
    append_trades(catalog, 10)
    load_table(catalog, TRADES.table).manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()

    result = append_trades(catalog, 5)

    assert (result.version.number, result.version.offsets) == (3, {0: 15})
    assert offsets(catalog) == list(range(15))


def test_snapshots_stay_few_and_none_goes_before_it_is_recorded(catalog: Catalog) -> None:
    recorded = 0
    retention = Retention(live=3, recorded=lambda number: number <= recorded)
    for _ in range(6):
        append_trades(catalog, 1, retention=retention)
    assert len(load_table(catalog, TRADES.table).snapshots()) == 6

    recorded = 2
    append_trades(catalog, 1, retention=retention)
    assert len(load_table(catalog, TRADES.table).snapshots()) == 5

    recorded = 7
    expire(catalog, TRADES.table, retention=retention)
    assert len(load_table(catalog, TRADES.table).snapshots()) == 3
    assert offsets(catalog) == list(range(7))


def test_a_commit_whose_surplus_another_replica_has_just_expired_is_built_anew(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        append_trades(catalog, 1)
    retention = Retention(live=2, recorded=lambda _: True)
    real = catalog.commit_table

    def overtaken(*arguments: object) -> CommitTableResponse:
        monkeypatch.setattr(catalog, "commit_table", real)
        assert len(expire(catalog, TRADES.table, retention=retention)) == 3
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog, "commit_table", overtaken)
    append_trades(catalog, 1, retention=retention)

    assert len(load_table(catalog, TRADES.table).snapshots()) == 2
    assert offsets(catalog) == list(range(6))


def test_many_small_manifests_become_one_and_keep_every_row(catalog: Catalog) -> None:
    retention = Retention(live=2, recorded=lambda _: True)
    for _ in range(103):
        append_trades(catalog, 1, retention=retention)

    table = load_table(catalog, TRADES.table)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert len(snapshot.manifests(table.io)) < 10
    assert offsets(catalog) == list(range(103))


def test_a_metadata_file_is_parsed_once_and_what_another_process_commits_is_seen(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    parse = FromInputFile.table_metadata

    def counted(file: InputFile) -> TableMetadata:
        parsed.append(file.location)
        return parse(file)

    monkeypatch.setattr(FromInputFile, "table_metadata", counted)
    other = open_catalog(folder_catalog(tmp_path))
    for _ in range(3):
        append_trades(catalog, 5)
        load_table(catalog, TRADES.table)
    assert parsed == []
    # What is kept of an own commit is what the file says.
    assert load_table(other, TRADES.table).metadata == load_table(catalog, TRADES.table).metadata
    append_trades(other, 5)
    assert offsets(catalog) == list(range(20))
    assert len(parsed) == len(set(parsed)) == 2


def test_owners_in_one_process_take_turns(catalog: Catalog) -> None:
    def owner(partition: int) -> list[int]:
        return [append_trades(catalog, 1, partition=partition).tries for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        tries = list(pool.map(owner, range(4)))
    assert tries == [[1] * 10] * 4
