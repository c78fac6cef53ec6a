"""Rows from archived bytes lie at the offsets that the statuses name, or are not rebuilt at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from iceberg_sink.repair.lost_offsets import LostOffsets, columns_of
from iceberg_sink.repair.upload_evidence import KnownUploads, NamedRows, add_receipts
from iceberg_sink.repair.upload_rows import POSITION, ForwardFile, NotRebuilt, UploadRows
from k2common.columnar.arrow import arrow_schema
from k2common.columnar.partition import partition_of
from k2common.errors import DataDamaged
from k2common.iceberg.archive import Archive, ContentGone
from k2common.layouts.catalogue import layout_named
from k2common.layouts.upload import UploadSpec
from k2common.schemas.datasets import TRADES, avro_schema
from k2common.versions.version import Version

SYMBOLS = ("A", "B", "C", "D")
HEADER = "ts_event_ns,symbol,venue,price,size\n"
ROWS = 40
CONTENT = HEADER + "".join(
    f"17000000000000000{n:02},{SYMBOLS[n % 4]},X,{'bad' if n % 10 == 9 else n + 1},1\n" for n in range(ROWS)
)
LINES: Mapping[int, Sequence[int]] = {
    partition: [
        n + 2
        for n in range(ROWS)
        if n % 10 != 9 and partition_of(f"X:{SYMBOLS[n % 4]}".encode(), TRADES.topic.partitions) == partition
    ]
    for partition in range(TRADES.topic.partitions)
}
"""The lines of the accepted rows, by partition."""


class Bytes:
    """An archive of one file, or what it raises at the file's end."""

    def __init__(self, content: bytes | Exception) -> None:
        self._content = content

    def content(self, _: str) -> Iterator[bytes]:
        content = CONTENT.encode() if isinstance(self._content, DataDamaged) else self._content
        if isinstance(content, Exception):
            raise content
        yield from (content[at : at + 7] for at in range(0, len(content), 7))
        if isinstance(self._content, Exception):
            raise self._content


def spec(**fields: Any) -> UploadSpec:
    given: dict[str, Any] = {
        "upload_id": "U1",
        "dataset": "trades",
        "layout": "k2",
        "layout_json": layout_named("k2", dataset="trades").canonical_json,
        "source": "s",
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT.encode()).hexdigest(),
        "received_at": datetime(2026, 3, 2, tzinfo=UTC),
    }
    return UploadSpec(**{**given, **fields})


def batches(*rows: tuple[int, int, int, int, int]) -> Any:
    return np.array(rows, np.int64).reshape(-1, 5)


def named(**moved: Any) -> NamedRows:
    """Each partition's rows in two record batches with a hole between them."""
    rows = []
    for partition, lines in LINES.items():
        if lines:
            rows += [(partition, 0, 0, 100, 5), (partition, 1, 0, 200, len(lines) - 5)]
    return NamedRows(batches=batches(*rows), **moved)


def rebuilt(content: bytes | Exception, at: NamedRows, lost: Any = None) -> pa.Table:
    rows = UploadRows(cast(Archive, Bytes(content)), TRADES)
    return rows.rebuild(spec(), at, None, lost=lost or (lambda _e, _p, offsets: np.ones(len(offsets), bool)))


def test_rows_in_the_order_of_lines_take_the_offsets_of_the_batches_in_the_order_of_chunks() -> None:
    rows = rebuilt(CONTENT.encode(), named())
    for partition, lines in LINES.items():
        of = rows.filter(pa.compute.equal(rows["kafka_partition"], partition))
        wanted = [*range(100, 105), *range(200, 200 + len(lines) - 5)] if lines else []
        assert of["line"].to_pylist() == lines
        assert of["kafka_offset"].to_pylist() == wanted
    assert set(rows["upload_id"].to_pylist()) == {"U1"}
    names = [*arrow_schema(avro_schema("trades")).names, *POSITION]
    assert sorted(rows.column_names) == sorted(names)


def test_lost_rows_alone_are_kept() -> None:
    def lost(_: Any, partitions: Any, offsets: Any) -> Any:
        return (partitions == 0) & (offsets >= 103) & (offsets < 201)

    assert rebuilt(CONTENT.encode(), named(), lost)["kafka_offset"].to_pylist() == [103, 104, 200]


@pytest.mark.parametrize("less", [True, False], ids=["fewer names than rows", "more names than rows"])
def test_other_counts_than_the_statuses_name_are_refused(less: bool) -> None:
    whole = named().batches.copy()
    whole[-1, 4] += -1 if less else 1
    with pytest.raises(NotRebuilt, match="its statuses name"):
        rebuilt(CONTENT.encode(), NamedRows(batches=whole))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (ContentGone("gone"), "the archive no longer holds its bytes"),
        (DataDamaged("the archive", path="p"), "its bytes in the archive are damaged"),
        (b"\x00" * 100, "cannot be parsed"),
    ],
)
def test_bytes_that_cannot_be_used_are_a_reason(content: bytes | Exception, reason: str) -> None:
    with pytest.raises(NotRebuilt, match=reason):
        rebuilt(content, named())


def test_a_row_that_was_put_back_lies_where_the_mark_says() -> None:
    rows = rebuilt(CONTENT.encode(), named(moved={(0, 0, 103): (2, 0, 900)}))
    (back,) = rows.filter(pa.compute.equal(rows["kafka_offset"], 900)).to_pylist()
    (first,) = rows.filter(
        pa.compute.and_(
            pa.compute.equal(rows["kafka_offset"], 103), pa.compute.equal(rows["kafka_partition"], 0)
        )
    ).to_pylist()
    assert back == {**first, "kafka_epoch": 2, "kafka_offset": 900}


def test_a_file_is_read_forward_in_whatever_pieces_it_comes() -> None:
    data = bytes(range(100))
    for size in (1, 3, 64, 200):
        file = ForwardFile(data[at : at + size] for at in range(0, len(data), size))
        assert (file.read(10), file.read(5)) == (data[:10], data[10:15])
        assert (file.seek(0), file.read(20)) == (0, data[:20])
        assert (file.seek(40), file.read(30), file.read(100), file.read(1)) == (
            40,
            data[40:70],
            data[70:],
            b"",
        )
        with pytest.raises(ValueError, match="no longer held"):
            file.seek(39)


def receipt(**fields: Any) -> Mapping[str, Any]:
    offsets = [
        {"topic": "market.trades.v1", "partition": 0, "epoch": 1, "first": 7, "end": 9},
        {"topic": "ingest.rejects.v1", "partition": 1, "epoch": 1, "first": 50, "end": 51},
    ]
    return {"upload_id": "U1", "offsets": offsets, "rows": {"published": 2, "rejected": 1}, **fields}


def test_a_receipt_names_the_rows_of_an_upload_whose_statuses_are_not_whole() -> None:
    def of(topic: str, count: str, known: Mapping[str, NamedRows]) -> list[list[int]]:
        found: list[list[int]] = add_receipts(known, [receipt()], topic, count=count)["U1"].batches.tolist()
        return found

    part = {"U1": NamedRows(batches=batches((0, 1, 1, 8, 1)))}
    whole = {"U1": NamedRows(batches=batches((0, 0, 1, 7, 1), (0, 1, 1, 8, 1)))}
    assert of("market.trades.v1", "published", {}) == [[0, 0, 1, 7, 2]]
    assert of("market.trades.v1", "published", part) == [[0, 0, 1, 7, 2]]
    assert of("market.trades.v1", "published", whole) == [[0, 0, 1, 7, 1], [0, 1, 1, 8, 1]]
    assert of("ingest.rejects.v1", "rejected", {}) == [[1, 0, 1, 50, 1]]


def test_an_upload_that_was_withdrawn_and_is_no_longer_hidden_was_purged() -> None:
    known = KnownUploads(specs={"SHOWN": spec(), "BACK": spec()}, withdrawn={"BACK"})
    asked = ("SHOWN", "BACK", "CLAIMED AGAIN")
    assert [known.is_purged(upload, set()) for upload in asked] == [False, True, True]
    assert [known.is_purged(upload, set(asked)) for upload in asked] == [False, False, False]


def version(**fields: Any) -> Version:
    given: dict[str, Any] = {"epoch": 0, "offsets": {0: 1_000, 1: 150}}
    return cast(Version, SimpleNamespace(**{"ended": {}, **given, **fields}))


def positions(*rows: tuple[int, int, int]) -> tuple[Any, Any, Any]:
    epochs, partitions, offsets = np.array(rows, np.int64).reshape(-1, 3).T
    return epochs, partitions, offsets


def test_lost_is_what_is_named_below_the_tables_offsets_and_not_there() -> None:
    lost = LostOffsets(90, 300, head=version())
    lost.add_named(NamedRows(batches=batches((0, 0, 0, 100, 5), (1, 0, 0, 148, 5), (0, 1, 0, 400, 5))))
    lost.remove(*positions((0, 0, 101), (0, 0, 5), (0, 7, 100)))
    asked = positions(
        (0, 0, 99), (0, 0, 100), (0, 0, 101), (0, 0, 104), (0, 0, 105), (0, 1, 149), (0, 1, 150), (0, 0, 400)
    )
    assert lost.has(*asked).tolist() == [False, True, False, True, False, True, False, False]
    assert lost.has_any(NamedRows(batches=batches((0, 0, 0, 104, 1))))
    assert not lost.has_any(NamedRows(batches=batches((0, 0, 0, 101, 1))))
    assert lost.has_any(NamedRows(batches=batches(), moved={(0, 0, 1): (0, 0, 104)}))


def test_epochs_of_one_log_are_the_same_and_those_of_another_are_not() -> None:
    head = version(epoch=2, offsets={0: 50}, ended={0: {0: 120}})
    lost = LostOffsets(0, 200, head=head)
    lost.add_named(NamedRows(batches=batches((0, 0, 0, 100, 30), (0, 0, 1, 10, 5))))
    asked = positions((0, 0, 119), (0, 0, 120), (1, 0, 10), (2, 0, 10), (0, 0, 10), (1, 0, 100))
    assert lost.has(*asked).tolist() == [True, False, True, True, False, False]


def test_rows_of_another_engine_without_a_position_are_at_none() -> None:
    rows = pa.table({name: pa.array([None, 1], pa.int64()) for name in POSITION})
    assert [column.tolist() for column in columns_of(rows, POSITION)] == [[-1, 1]] * 3
