"""What a commit takes is bounded by rows, bytes and time; offsets never pass a batch that is held."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest
from iceberg_sink.batches.batch_intake import FetchedBatches, Intake, Pace
from iceberg_sink.commits.writer import pace_of
from iceberg_sink.settings import SinkSettings
from k2common.columnar.record_batch import FetchedBatch
from k2common.schemas.datasets import DEAD_LETTERS, REJECTS, TRADES, UPLOADS, VERSIONS
from pydantic import SecretStr

KEY = SecretStr("a-secret-of-the-tests")


class Reader:
    """Gives what it was made with, a batch of each place at a time."""

    def __init__(self, batches: Mapping[tuple[str, int], list[FetchedBatch]]) -> None:
        self._batches = batches
        self.fetched = 0
        self._positions = dict.fromkeys(batches, 0)

    async def fetch(self, *, limit: int, wait_seconds: float) -> Mapping[tuple[str, int], list[FetchedBatch]]:
        found = {place: left[:limit] for place, left in self._batches.items() if left}
        for place, batches in found.items():
            self.fetched += len(batches)
            del self._batches[place][: len(batches)]
            self._positions[place] = batches[-1].base_offset + batches[-1].count
        return found

    async def positions(self) -> Mapping[tuple[str, int], int]:
        return dict(self._positions)

    def known_end(self, place: tuple[str, int]) -> int:
        return 1000


def batch(base: int, count: int, *, size: int = 100) -> FetchedBatch:
    payload = memoryview(b"".join([bytes(16), b"\x02", bytes(44 + size)]))
    return FetchedBatch(partition=0, base_offset=base, count=count, wanted_from=base, payload=payload)


class Still:
    """Time that stands until a fetch finds nothing."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def intake(reader: Reader, clock: Still, pace: Pace | None = None, **fields: Any) -> Intake:
    settings = SinkSettings(page_key=KEY, **fields)
    real: Any = reader
    numbers = {("a", 0): 0, ("b", 0): 5}
    given = pace or pace_of(TRADES, settings)
    return Intake(real, numbers=numbers, pace=given, settings=settings, clock=cast(Any, clock))


async def take(taking: Intake, *, patience: float = 1.0) -> FetchedBatches:
    taken = await taking.take(asyncio.Event(), patience_seconds=patience)
    assert taken is not None
    return taken


async def test_a_commit_takes_no_more_than_its_rows_and_nothing_is_fetched_while_some_are_held() -> None:
    reader = Reader({("a", 0): [batch(n * 600, 600) for n in range(5)], ("b", 0): []})
    taking = intake(reader, Still(), commit_rows=1_000, fetch_batches=10)
    for first, offsets in ((0, {0: 1200, 5: 0}), (1200, {0: 2400, 5: 0})):
        taken = await take(taking)
        assert [(b.base_offset, b.partition) for b in taken.batches] == [(first, 0), (first + 600, 0)]
        assert taken.offsets == offsets
        assert taken.moved == {0: offsets[0]}
        assert reader.fetched == 5
    assert await taking.behind() == 1_000


async def test_a_commit_takes_no_more_than_its_bytes() -> None:
    size = 600 * 1024
    reader = Reader({("b", 0): [batch(n, 1, size=size) for n in range(3)]})
    taken = await take(intake(reader, Still(), commit_bytes=1024 * 1024))
    assert [(b.base_offset, b.partition) for b in taken.batches] == [(0, 5), (1, 5)]
    assert taken.moved == {5: 2}


class Coming(Reader):
    """Batches of one place at their times."""

    def __init__(self, clock: Still, *times: float) -> None:
        super().__init__({("a", 0): [], ("b", 0): []})
        self._clock = clock
        self._times = list(times)

    async def fetch(self, *, limit: int, wait_seconds: float) -> Mapping[tuple[str, int], list[FetchedBatch]]:
        until = self._clock.seconds + wait_seconds
        if self._times and self._times[0] <= until:
            self._clock.seconds = max(self._clock.seconds, self._times.pop(0))
            self._batches[("a", 0)].append(batch(self._positions[("a", 0)], 1))
        else:
            self._clock.seconds = until
        return await super().fetch(limit=limit, wait_seconds=wait_seconds)


async def test_what_comes_after_a_pause_is_taken_at_once_and_what_follows_gathers_until_the_next_is_due() -> (
    None
):
    clock = Still()
    clock.seconds = 100.0
    reader = Coming(clock, 100.5, 100.6, 100.7, 103.0)
    taking = intake(reader, clock, Pace(0.25, share=None))
    found = []
    for _ in range(3):
        taken = await take(taking, patience=10.0)
        found.append((round(clock.seconds, 3), len(taken.batches)))
    assert found == [(100.5, 1), (100.75, 2), (103.0, 1)]


async def test_what_has_come_by_the_time_a_commit_is_due_goes_with_what_was_held() -> None:
    clock = Still()
    backlog = Reader({("a", 0): [batch(n * 600, 600) for n in range(8)], ("b", 0): []})
    taking = intake(backlog, clock, commit_rows=1_000, fetch_batches=3)
    counts = []
    for _ in range(4):
        counts.append(len((await take(taking)).batches))
        clock.seconds += 10.0  # until it is written
    assert counts == [2, 2, 2, 2]


async def test_nothing_is_taken_once_the_patience_is_over() -> None:
    clock = Still()
    taking = intake(Coming(clock), clock)
    taken = await take(taking, patience=2.0)
    assert (clock.seconds, taken.batches, taken.moved) == (2.0, [], {0: 0, 5: 0})
    stop = asyncio.Event()
    stop.set()
    assert await taking.take(stop, patience_seconds=1.0) is None


def test_quick_commits_come_sooner_and_slow_ones_never_later_than_the_interval() -> None:
    pace = Pace(0.25, share=0.5)
    assert pace.seconds == 0.25
    for _ in range(100):
        pace.took(0.02)
    quick = pace.seconds
    assert quick == pytest.approx(0.04, rel=0.01)
    pace.took(0.3)
    assert quick < pace.seconds < 0.1
    for _ in range(100):
        pace.took(0.3)
    assert pace.seconds == 0.25


def test_what_holds_a_receipt_up_is_committed_sooner_than_the_books() -> None:
    settings = SinkSettings(page_key=KEY, commit_interval_seconds=0.25, bookkeeping_interval_seconds=2.0)
    for dataset, longest, soonest in (
        (TRADES, 0.25, 0.02),
        (REJECTS, 0.25, 0.02),
        (DEAD_LETTERS, 0.25, 0.02),
        (UPLOADS, 2.0, 2.0),
        (VERSIONS, 2.0, 2.0),
    ):
        pace = pace_of(dataset, settings)
        assert pace.seconds == longest
        for _ in range(100):
            pace.took(0.01)
        assert pace.seconds == pytest.approx(soonest, rel=0.01)
