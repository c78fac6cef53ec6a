"""A record belongs to an upload when a status or a redrive names its offset: the log says it, no clock."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iceberg_sink.batches.stray_records import BESIDE_STRAY, GRACE_SECONDS, STRAY, PartedBatches, StrayRecords
from iceberg_sink.uploads.named_offsets import NamedOffsets
from k2common.columnar.record_batch import HEADER, MAGIC, FetchedBatch
from k2common.columnar.records import write_varint
from k2common.errors import Fenced
from k2common.schemas.datasets import STATUS, TRADES

TOPIC = TRADES.topic.name
PLACE = (STATUS.name, 0)


def packed(base: int, values: Sequence[bytes], *, partition: int = 0) -> FetchedBatch:
    """A record batch of format 2, not compressed."""
    records = b""
    for delta, value in enumerate(values):
        body = b"\x00\x00" + write_varint(delta) + write_varint(1) + b"k"
        body += write_varint(len(value)) + value + write_varint(0)
        records += write_varint(len(body)) + body
    length = HEADER.size - 12 + len(records)
    header = HEADER.pack(base, length, -1, MAGIC, 0, 0, len(values) - 1, 0, 0, -1, -1, -1, len(values))
    payload = memoryview(header + records)
    return FetchedBatch(
        partition=partition, base_offset=base, count=len(values), wanted_from=base, payload=payload
    )


def status(upload: str, *outputs: tuple[int, int], epoch: int = 0, partition: int = 0) -> dict[str, Any]:
    """What a status names: first offsets and counts."""
    named = [
        {"topic": TOPIC, "partition": partition, "base_offset": first, "count": count}
        for first, count in outputs
    ]
    return {"upload_id": upload, "kafka_epoch": epoch, "outputs": named}


class Log:
    """The topic of statuses, and a follower of it that reads when it is let."""

    def __init__(self) -> None:
        self.named = NamedOffsets()
        self.end = 0
        self.at = 0
        self.waiting: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.asked = 0
        self.reads_after = 1_000.0

        self.reversals: list[Any] = []

    def append(self, message: dict[str, Any]) -> None:
        self.waiting.append(message)
        self.end += 1

    def read(self) -> None:
        for message in self.waiting:
            self.named.add_status(message, stated_at=(0, self.end))
        self.waiting.clear()
        self.at = self.end

    def position(self, topic: str, partition: int) -> int:
        return self.at if (topic, partition) == PLACE else 0

    async def watermarks(self) -> Mapping[tuple[str, int], int]:
        self.asked += 1
        return {PLACE: self.end}

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.seconds >= self.reads_after:
            self.read()
        await asyncio.sleep(0)

    def parting(self, *, epochs: Sequence[int] = (0,)) -> StrayRecords:
        followers: Any = [self]
        clock: Any = self
        return StrayRecords(
            TOPIC,
            epochs=epochs,
            named=self.named,
            followers=followers,
            watermarks=self.watermarks,
            clock=clock,
            on_reversal=self.reversals.append,
        )

    async def part(self, *batches: FetchedBatch, epochs: Sequence[int] = (0,)) -> PartedBatches:
        parted = await self.parting(epochs=epochs).part(batches, asyncio.Event())
        assert parted is not None
        return parted


async def test_named_batches_pass_without_a_question() -> None:
    log = Log()
    log.append(status("U1", (0, 2), (2, 1)))
    log.read()
    batches = [packed(0, [b"a", b"b"]), packed(2, [b"c"])]
    parted = await log.part(*batches)
    assert (list(parted.batches), parted.strays, log.asked, log.seconds) == (batches, (), 0, 0.0)


async def test_a_status_that_is_read_after_its_records_is_waited_for() -> None:
    log = Log()
    log.append(status("U1", (0, 1)))
    log.reads_after = 60.0
    parted = await log.part(packed(0, [b"a"]))
    assert (len(parted.batches), parted.strays) == (1, ())
    assert log.seconds >= 60


async def test_a_record_is_a_stray_once_all_is_read_that_could_name_it() -> None:
    log = Log()
    log.append(status("U1", (0, 2)))
    log.reads_after = 60.0
    parted = await log.part(packed(0, [b"a", b"b"]), packed(2, [b"x", b"y"]))
    assert [batch.base_offset for batch in parted.batches] == [0]
    assert [(stray.offset, stray.value, stray.reason) for stray in parted.strays] == [
        (2, b"x", STRAY),
        (3, b"y", STRAY),
    ]
    assert log.seconds >= 60


async def test_nothing_is_judged_before_the_watermarks_of_that_time_were_asked_for() -> None:
    """The follower was at an older end already; what was appended since may name the record."""
    log = Log()
    log.append(status("U0", (9, 1)))
    log.read()
    log.append(status("U1", (0, 1)))
    log.reads_after = GRACE_SECONDS + 5
    parted = await log.part(packed(0, [b"a"]))
    assert (len(parted.batches), log.asked) == (1, 1)


async def test_the_names_of_a_batch_that_strays_share_are_kept() -> None:
    log = Log()
    log.append(status("U1", (1, 1)))
    log.reads_after = 0.0
    parted = await log.part(packed(0, [b"x", b"a", b"y"]))
    assert [stray.offset for stray in parted.strays] == [0, 2]
    assert [(beside.offset, beside.reason) for beside in parted.beside] == [(1, BESIDE_STRAY)]
    assert parted.batches == []


async def test_offsets_of_a_log_that_is_no_more_name_nothing() -> None:
    log = Log()
    log.append(status("U1", (0, 1), epoch=0))
    log.reads_after = 0.0
    assert len((await log.part(packed(0, [b"a"]), epochs=(1,))).strays) == 1
    assert len((await log.part(packed(0, [b"a"]), epochs=(1, 0))).strays) == 0


async def test_a_redriven_record_is_named_by_its_mark_and_not_by_its_header() -> None:
    log = Log()
    move = {"epoch": 0, "partition": 0, "offset": 3, "new_epoch": 0, "new_offset": 7}
    log.named.add_redrive({"topic": TOPIC, "upload_id": "U1", "moves": [move]})
    log.reads_after = 0.0
    parted = await log.part(packed(7, [b"a"]), packed(8, [b"x"]))
    assert ([b.base_offset for b in parted.batches], [s.offset for s in parted.strays]) == ([7], [8])


async def test_an_owner_behind_the_table_judges_nothing() -> None:
    log = Log()
    log.append(status("U1", (0, 2)))
    log.read()
    log.named.forget_passed(TOPIC, {0: 2})
    with pytest.raises(Fenced):
        await log.part(packed(0, [b"a", b"b"]))
    # After a rollback the names are read again.
    assert log.named.forgets(TOPIC, {0: 0})
    log.named.add_status(status("U1", (0, 2)), stated_at=(0, 0))
    log.named.remember_from(TOPIC)
    assert not log.named.forgets(TOPIC, {0: 0})
    assert len((await log.part(packed(0, [b"a", b"b"]))).batches) == 1


async def test_a_stop_ends_the_wait() -> None:
    log = Log()
    stop = asyncio.Event()
    waiting = asyncio.create_task(log.parting().part([packed(0, [b"a"])], stop))
    log.append(status("U1", (5, 1)))
    await asyncio.sleep(0)
    stop.set()
    async with asyncio.timeout(30):
        assert await waiting is None


@st.composite
def records(draw: st.DrawFn) -> list[tuple[int, int, bool]]:
    """Record batches of one partition as first offset, count, and whether the loader wrote it."""
    found, at = [], 0
    for _ in range(draw(st.integers(1, 8))):
        count = draw(st.integers(1, 4))
        found.append((at, count, draw(st.booleans())))
        at += count + draw(st.integers(0, 2))
    return found


@given(records(), st.data())
def test_every_replica_finds_the_same_whatever_it_has_read_and_forgotten(
    written: list[tuple[int, int, bool]], data: st.DataObject
) -> None:
    statuses = [status(f"U{first}", (first, count)) for first, count, loaded in written if loaded]
    table = data.draw(st.sampled_from([0, *(first for first, _, _ in written)]))
    log = Log()
    for message in data.draw(st.permutations(statuses)):
        log.append(message)
        if data.draw(st.booleans()):
            log.read()
            log.named.forget_passed(TOPIC, {0: table})
    log.reads_after = 1.0
    ahead = [packed(first, [b"v"] * count) for first, count, _ in written if first >= table]
    parted = asyncio.run(log.part(*ahead))
    assert [b.base_offset for b in parted.batches] == [f for f, _, loaded in written if loaded and f >= table]
    strays = {o for f, c, loaded in written if not loaded and f >= table for o in range(f, f + c)}
    assert {stray.offset for stray in parted.strays} == strays
