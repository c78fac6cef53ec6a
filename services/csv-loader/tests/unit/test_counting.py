"""Chunks are counted by what became of their rows, and the lag is that of the oldest chunk in hand."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from csv_loader.counting import Lag, count
from csv_loader.metrics import LoaderMetrics
from csv_loader.processing import Chunk, Output, Processed
from k2common.columnar.record_batch import EncodedBatch
from k2common.layouts.upload import UploadSpec
from k2common.observability.metrics import CollectorRegistry
from k2common.schemas.datasets import REJECTS, TRADES

NOW = 1_000.0


@dataclass
class Message:
    timestamp: int


class Read:
    def __init__(self) -> None:
        self.now = NOW
        self.registry = CollectorRegistry()
        self.metrics = LoaderMetrics(self.registry, now=lambda: self.now)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def read() -> Read:
    return Read()


def processed(*, terminal: bool = False, length: int = 100) -> Processed:
    upload = UploadSpec(
        upload_id="U1",
        dataset="trades",
        layout="k2",
        layout_json="{}",
        source="s",
        bytes=1,
        sha256="",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    chunk = Chunk(message={"terminal": terminal, "length": 0 if terminal else length}, upload=upload)
    if terminal:
        return Processed(chunk=chunk)
    return Processed(
        chunk=chunk,
        rows_read=6,
        rows_accepted=3,
        rows_rejected=2,
        rows_filtered=1,
        errors={("price", "NUMBER_INVALID"): 1, (None, "COLUMN_COUNT"): 1},
        outputs=[
            Output(topic=TRADES.topic.name, batches=[EncodedBatch(partition=0, count=3, payload=b"123")]),
            Output(topic=REJECTS.topic.name, batches=[EncodedBatch(partition=0, count=2, payload=b"12")]),
        ],
    )


def test_rows_chunks_and_bytes_are_counted_once_a_transaction(read: Read) -> None:
    count([processed(), processed(), processed(terminal=True)], read.metrics)
    for outcome, rows in (("accepted", 6), ("rejected", 4), ("filtered", 2)):
        assert read("k2_rows_loaded_total", dataset="trades", outcome=outcome) == rows
    for code in ("NUMBER_INVALID", "COLUMN_COUNT"):
        assert read("k2_rows_rejected_total", dataset="trades", code=code) == 2
    assert read("k2_rows_published_bytes_total", dataset="trades") == 6
    assert read("k2_rows_published_bytes_total", dataset="rejects") == 4
    assert read("k2_chunks_loaded_total") == 2
    assert read("k2_chunks_loaded_bytes_total") == 200
    assert read("k2_batches_loaded_chunks_sum") == 3
    assert read("k2_batches_loaded_rows_sum") == 12


def test_the_lag_is_the_age_of_the_oldest_chunk_that_is_not_loaded(read: Read) -> None:
    lag = Lag(1, metrics=read.metrics, now=lambda: read.now)

    def seen() -> tuple[float | None, float | None]:
        return read("k2_chunks_waiting", partition="1"), read("k2_chunks_waiting_seconds", partition="1")

    lag.came([Message(990_000), Message(991_000)], beyond=5)
    assert seen() == (7, 10)
    lag.came([Message(995_000)], beyond=0)
    read.now += 2
    assert seen() == (1, 12)
    lag.loaded()
    assert seen() == (1, 7)
    lag.loaded()
    lag.nothing_came()
    assert seen() == (0, 0)
    lag.end()
    assert seen() == (0, None)


def test_a_partition_whose_work_fails_again_and_again_does_not_look_idle(read: Read) -> None:
    lag = Lag(1, metrics=read.metrics, now=lambda: read.now)
    for _ in range(3):
        lag.came([Message(990_000)], beyond=0)
        lag.fail()
        assert read("k2_chunks_waiting_seconds", partition="1") == 10
    read.now += 5
    assert read("k2_chunks_waiting_seconds", partition="1") == 15
    lag.came([Message(990_000)], beyond=0)
    lag.loaded()
    assert read("k2_chunks_waiting_seconds", partition="1") == 0


def test_a_partition_that_loads_nothing_while_chunks_wait_is_stalled(read: Read) -> None:
    lag = Lag(2, metrics=read.metrics, now=lambda: read.now)

    def seen() -> tuple[float | None, float | None]:
        names = ("k2_chunks_waiting_seconds", "k2_partitions_stalled_seconds")
        return read(names[0], partition="2"), read(names[1], partition="2")

    # A new owner: the chunk waited for a minute before it came.
    lag.came([Message(940_000)], beyond=9)
    assert seen() == (60, 60)
    # One after another: old, but not stalled.
    for _ in range(3):
        lag.came([Message(941_000)], beyond=8)
        read.now += 10
        lag.loaded()
    assert seen() == (89, 0)
    # The next one hangs in its parse, or fails and is tried again.
    read.now += 400
    lag.fail()
    lag.came([Message(941_000)], beyond=8)
    assert seen() == (489, 400)
    lag.loaded()
    lag.nothing_came()
    read.now += 400
    assert seen() == (0, 0)
    lag.end()
    assert seen() == (None, None)
