"""Rows are neither lost nor doubled: the sum is 0 over real commits, and is not where one breaks that."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from ingest_gateway.receipts.conservation import HOLE, SETTLING, Sum
from ingest_gateway.receipts.tracker import Tracker
from k2common.domain.dead_letters import DeadLetter
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import CommitResult, Proposal, commit
from k2common.iceberg.files.data_files import write
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import REJECTS, TRADES
from k2common.testing.iceberg import append_trades, first_version, folder_catalog, trade_rows
from k2common.versions.version import Version

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOPIC = TRADES.topic.name


class Clock:
    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment


class World:
    """A table that is committed to by the real kernel, and a gateway that hears of it."""

    def __init__(self, home: Path) -> None:
        self.catalog: Catalog = open_catalog(folder_catalog(home))
        ensure_tables(self.catalog, [TRADES])
        self.clock = Clock()
        self.tracker = Tracker(cast(Any, self.clock))
        self.tracker.conservation.begin(since=None)
        self.chunks = 0

    def chunk(self, *places: tuple[int, int], read: int | None = None, rejected: int = 0) -> None:
        """The status of the next chunk: offsets and counts in partition 0."""
        rows = sum(count for _, count in places)
        self.status(self.chunks, places, read=rows + rejected if read is None else read, rejected=rejected)
        self.chunks += 1

    def status(self, index: int, places: Any, *, read: int, rejected: int = 0) -> None:
        outputs = [
            {"topic": TOPIC, "partition": 0, "base_offset": first, "count": count} for first, count in places
        ]
        self.tracker.on_status(
            {
                "upload_id": "U1",
                "dataset": "trades",
                "index": index,
                "terminal": False,
                "cancelled": False,
                "rows_read": read,
                "rows_accepted": read - rejected,
                "rows_rejected": rejected,
                "rows_filtered": 0,
                "errors": [],
                "outputs": outputs,
                "kafka_epoch": 0,
                "on_error": "skip_row",
                "max_reject_ratio": None,
                "replaces": None,
                "failure": None,
                "processed_at": NOW,
            }
        )

    def commit(self, rows: int) -> CommitResult:
        """The sink commits so many rows from the table's offset on."""
        result = append_trades(self.catalog, rows)
        self.announce(result)
        return result

    def append(self, rows: int, *, end: int) -> None:
        """A commit of so many rows that moves the offset to `end`, whatever lay there."""
        table = load_table(self.catalog, TRADES.table)
        at = (head_version(table) or first_version(TRADES.table)).offsets.get(0)

        def change(head: Version | None) -> Version:
            known = head or first_version(TRADES.table)
            return known.successor(now=NOW, offsets={0: end}, hidden={})

        files = write(trade_rows(at or 0, rows), table=table)
        expected = {} if end == at else {0: at}
        proposal = Proposal(table=TRADES.table, epoch=0, change=change, expected=expected, files=files)
        self.announce(commit(self.catalog, proposal))

    def announce(self, result: CommitResult) -> None:
        totals = result.totals
        assert totals is not None
        self.hear(result.version, rows=totals.rows, removed=totals.removed)

    def hear(self, version: Version, **said: int | None) -> None:
        message = {"rows": said.get("rows"), "rows_removed": said.get("removed")}
        self.tracker.on_commit(message, version)

    def letter(self, offset: int) -> None:
        self.tracker.dead_letters.add(
            DeadLetter(
                topic=TOPIC,
                epoch=0,
                partition=0,
                offset=offset,
                reason="",
                lettered_at=NOW,
                key=None,
                value=None,
            )
        )

    def redrive(self, offset: int, new_offset: int) -> None:
        move = {"epoch": 0, "partition": 0, "offset": offset, "new_epoch": 0, "new_offset": new_offset}
        self.tracker.on_redrive({"topic": TOPIC, "upload_id": "U1", "moves": [move]})

    def sum(self, table: str = TRADES.table, *, later: timedelta = SETTLING) -> Sum | None:
        self.clock.moment += later
        return self.tracker.conservation.sums(self.clock.now()).get(table)

    @property
    def unaccounted(self) -> int:
        found = self.sum()
        assert found is not None
        return found.unaccounted


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_rows_below_the_versions_offsets_are_committed_and_those_beyond_are_in_flight(world: World) -> None:
    world.chunk((0, 10))
    world.chunk((12, 6))
    world.chunk((20, 5))
    world.commit(10)
    assert world.sum() == Sum(stated=21, uncommitted=11, committed=10, dead_lettered=0, redriven=0)
    world.append(4, end=16)
    assert world.sum() == Sum(stated=21, uncommitted=7, committed=14, dead_lettered=0, redriven=0)
    assert world.unaccounted == 0


def test_statuses_that_are_heard_of_later_than_the_commit_are_no_loss(world: World) -> None:
    world.commit(10)
    world.chunk((0, 10))
    assert world.unaccounted == 0
    world.chunk((10, 3))
    world.commit(3)
    assert world.unaccounted == 0


def test_rows_that_are_committed_twice_are_too_many(world: World) -> None:
    world.chunk((0, 10))
    world.commit(10)
    assert world.unaccounted == 0
    world.append(10, end=10)
    assert world.unaccounted == -10


def test_rows_that_the_sink_passed_and_did_not_write_are_missing(world: World) -> None:
    world.chunk((0, 12))
    world.append(10, end=12)
    assert world.unaccounted == 2


def test_rows_that_were_read_and_never_published_are_missing(world: World) -> None:
    world.chunk((0, 9), read=10)
    world.commit(9)
    assert world.unaccounted == 1


def test_a_chunk_that_was_published_twice_doubles_its_rows(world: World) -> None:
    world.chunk((0, 10))
    world.status(0, [(10, 10)], read=10)
    world.commit(20)
    assert world.unaccounted == -10


def test_rows_that_another_engine_deleted_are_missing(world: World) -> None:
    world.chunk((0, 10))
    world.commit(10)
    load_table(world.catalog, TRADES.table).delete()
    world.chunk((10, 1))
    world.commit(1)
    assert world.unaccounted == 10


def test_a_dead_letter_is_no_loss_and_is_a_row_again_once_it_was_put_back(world: World) -> None:
    world.chunk((0, 10))
    world.letter(4)
    world.letter(100)
    world.append(9, end=10)
    assert world.sum() == Sum(stated=10, uncommitted=0, committed=9, dead_lettered=1, redriven=0)
    world.redrive(4, 12)
    world.append(1, end=13)
    assert world.sum() == Sum(stated=10, uncommitted=0, committed=10, dead_lettered=1, redriven=1)
    world.redrive(100, 14)
    world.letter(14)
    world.append(0, end=15)
    assert world.unaccounted == 0


def test_rows_that_were_purged_are_accounted_for_even_when_that_is_heard_of_late(world: World) -> None:
    world.chunk((0, 10))
    first = world.commit(10).version
    purged = first.successor(now=NOW, offsets={}, hidden={})
    world.hear(purged.successor(now=NOW, offsets={}, hidden={}), rows=6, removed=0)
    found = world.sum()
    assert found is not None
    assert (found.committed, found.unaccounted) == (10, 0)
    world.hear(purged, rows=6, removed=4)
    found = world.sum(later=HOLE)
    assert found is not None
    assert (found.committed, found.unaccounted) == (10, 0)


def test_a_version_is_judged_once_the_other_topics_can_have_told_of_it(world: World) -> None:
    world.commit(10)
    assert world.sum(later=SETTLING / 2) is None
    assert world.unaccounted == -10
    behind = replace(first_version(TRADES.table), number=1, offsets={0: 10}, dead_letters=3)
    world.hear(behind.successor(now=NOW, offsets={0: 20}, hidden={}), rows=10)
    assert world.unaccounted == -10  # its letters are not read yet


def test_rejects_are_rows_of_their_own_table(world: World) -> None:
    world.chunk((0, 8), rejected=2)
    world.commit(8)
    assert world.unaccounted == 0
    rejects = first_version(REJECTS.table).successor(now=NOW, offsets={}, hidden={})
    world.hear(rejects, rows=0)
    found = world.sum(REJECTS.table)
    assert found is not None
    assert found.unaccounted == 2


def test_counting_restarts_where_offsets_went_back_or_an_epoch_began(world: World) -> None:
    world.chunk((0, 10))
    world.append(7, end=10)
    assert world.unaccounted == 3
    head = head_version(load_table(world.catalog, TRADES.table))
    assert head is not None
    back = replace(head, number=2, offsets={0: 5})
    world.hear(back, rows=4)
    assert world.unaccounted == 0
    world.chunk((20, 2))
    recreated = replace(back, number=3, epoch=1, offsets={})
    world.hear(recreated, rows=4)
    assert world.sum() == Sum(stated=0, uncommitted=0, committed=0, dead_lettered=0, redriven=0)


def heard_at_the_start(world: World, numbers: range) -> None:
    version = first_version(TRADES.table)
    for number in numbers:
        version = replace(version, number=number, offsets={0: 10 * number}, committed_at=NOW)
        world.hear(version, rows=10 * number)


def test_at_the_start_all_is_counted_that_the_topics_hold(world: World) -> None:
    tracker = Tracker(cast(Any, world.clock))
    world.tracker = tracker
    heard_at_the_start(world, range(5, 40))
    for index in range(40):
        world.status(index, [(10 * index, 10)], read=10)
    assert world.sum() is None
    tracker.conservation.begin(since=None)
    assert world.sum() == Sum(stated=350, uncommitted=10, committed=340, dead_lettered=0, redriven=0)
    assert world.unaccounted == 0


def test_where_statuses_are_gone_only_what_is_committed_from_now_on_counts(world: World) -> None:
    tracker = Tracker(cast(Any, world.clock))
    world.tracker = tracker
    heard_at_the_start(world, range(5, 8))
    tracker.conservation.begin(since=NOW + timedelta(seconds=1))
    assert world.sum() is None
    later: Mapping[str, Any] = {"committed_at": NOW + timedelta(seconds=2)}
    version = replace(first_version(TRADES.table), number=8, offsets={0: 80}, **later)
    world.hear(version, rows=80)
    world.status(0, [(80, 5)], read=5)
    world.hear(replace(version, number=9, offsets={0: 85}), rows=84)
    found = world.sum()
    assert found is not None
    assert found.unaccounted == 1


def test_an_announcement_that_does_not_say_what_the_table_held_counts_not(world: World) -> None:
    version = replace(first_version(TRADES.table), number=1)
    world.hear(version)
    assert world.sum() is None
