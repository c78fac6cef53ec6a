"""Source positions only grow per chunk partition and output partition; a batch that breaks this is told."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from iceberg_sink.batches.source_order import SourceOrder
from iceberg_sink.uploads.named_offsets import NamedRange

from .test_stray_records import Log, packed, status


def named(
    first: int, chunk: int, *, chunk_partition: int = 0, status_offset: int | None = None
) -> NamedRange:
    stated = chunk if status_offset is None else status_offset
    return NamedRange(first, first + 1, "U1", (0, chunk_partition, chunk), (chunk_partition, stated))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=12))
def test_a_loader_that_holds_its_promise_is_never_told_of(chunks: list[tuple[int, int]]) -> None:
    """Chunks of several partitions between each other, each with some batches for this output partition."""
    order, ends, at = SourceOrder(), [0, 0, 0], 0
    for partition, batches in chunks:
        ends[partition] += 1
        for _ in range(batches):
            assert order.check(0, named(at, ends[partition], chunk_partition=partition)) is None
            at += 1


def test_a_chunk_that_comes_after_a_later_one_is_told() -> None:
    order = SourceOrder()
    assert order.check(0, named(0, 5)) is None
    assert order.check(0, named(1, 6)) is None
    reversal = order.check(0, named(2, 5))
    assert reversal is not None
    assert (reversal.offset, reversal.chunk_offset, reversal.last_chunk_offset) == (2, 5, 6)
    assert order.check(1, named(0, 5)) is None, "another output partition"
    assert order.check(0, named(3, 5, chunk_partition=1)) is None, "another chunk partition"


def test_a_chunk_that_two_statuses_state_is_told() -> None:
    order = SourceOrder()
    assert order.check(0, named(0, 5, status_offset=7)) is None
    assert order.check(0, named(1, 5, status_offset=7)) is None
    assert order.check(0, named(2, 5, status_offset=8)) is not None


def test_redriven_records_have_no_source_position() -> None:
    order = SourceOrder()
    order.check(0, named(0, 5))
    assert order.check(0, NamedRange(1, 2, "U1")) is None


def test_what_is_told_is_committed_all_the_same() -> None:
    log = Log()
    for first, chunk in ((0, 4), (1, 3)):
        message: dict[str, Any] = {**status("U1", (first, 1)), "chunk_partition": 0, "chunk_offset": chunk}
        log.append(message)
        log.read()
    parted = asyncio.run(log.part(packed(0, [b"a"]), packed(1, [b"b"])))
    assert (len(parted.batches), parted.strays) == (2, ())
    assert [(r.offset, r.chunk_offset, r.last_chunk_offset) for r in log.reversals] == [(1, 3, 4)]
