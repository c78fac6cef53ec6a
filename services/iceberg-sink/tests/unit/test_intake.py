"""What a commit takes is bounded by rows, bytes and age; offsets never pass a batch that is held."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from iceberg_sink.intake import Intake
from iceberg_sink.settings import SinkSettings
from iceberg_sink.writer import interval_seconds
from k2common.columnar.record_batch import FetchedBatch
from k2common.schemas.datasets import DEAD_LETTERS, REJECTS, TRADES, UPLOADS, VERSIONS


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


def intake(reader: Reader, clock: Still, **fields: Any) -> Intake:
    settings = SinkSettings(**fields)
    real: Any = reader
    numbers = {("a", 0): 0, ("b", 0): 5}
    every = interval_seconds(TRADES, settings)
    return Intake(real, numbers=numbers, interval_seconds=every, settings=settings, clock=cast(Any, clock))


async def test_a_commit_takes_no_more_than_its_rows_and_nothing_is_fetched_while_some_are_held() -> None:
    reader = Reader({("a", 0): [batch(n * 600, 600) for n in range(5)], ("b", 0): []})
    taking = intake(reader, Still(), commit_rows=1_000, fetch_batches=10)
    stop = asyncio.Event()
    for first, offsets in ((0, {0: 1200, 5: 0}), (1200, {0: 2400, 5: 0})):
        taken = await taking.take(stop)
        assert taken is not None
        assert [(b.base_offset, b.partition) for b in taken.batches] == [(first, 0), (first + 600, 0)]
        assert taken.offsets == offsets
        assert taken.moved == {0: offsets[0]}
        assert reader.fetched == 5
    assert await taking.behind() == 1_000


async def test_a_commit_takes_no_more_than_its_bytes() -> None:
    size = 600 * 1024
    reader = Reader({("b", 0): [batch(n, 1, size=size) for n in range(3)]})
    taken = await intake(reader, Still(), commit_bytes=1024 * 1024).take(asyncio.Event())
    assert taken is not None
    assert [(b.base_offset, b.partition) for b in taken.batches] == [(0, 5), (1, 5)]
    assert taken.moved == {5: 2}


async def test_what_came_is_taken_when_the_time_is_over_also_nothing() -> None:
    clock = Still()

    class Late(Reader):
        async def fetch(self, **wanted: Any) -> Mapping[tuple[str, int], list[FetchedBatch]]:
            clock.seconds += wanted["wait_seconds"]
            return await super().fetch(**wanted)

    taking = intake(Late({("a", 0): [batch(0, 1)], ("b", 0): []}), clock)
    for held in (1, 0):
        taken = await taking.take(asyncio.Event())
        assert taken is not None
        assert (len(taken.batches), taken.offsets[0]) == (held, 1)
    assert taken.moved == {0: 1, 5: 0}
    stop = asyncio.Event()
    stop.set()
    assert await taking.take(stop) is None


def test_what_holds_a_receipt_up_is_committed_sooner_than_the_books() -> None:
    settings = SinkSettings(commit_interval_seconds=0.25, bookkeeping_interval_seconds=2.0)
    assert {interval_seconds(dataset, settings) for dataset in (TRADES, REJECTS, DEAD_LETTERS)} == {0.25}
    assert {interval_seconds(dataset, settings) for dataset in (UPLOADS, VERSIONS)} == {2.0}
