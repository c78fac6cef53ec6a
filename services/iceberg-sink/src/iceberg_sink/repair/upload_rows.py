"""Rows of an upload, rebuilt from its archived bytes by its layout, at the offsets that its statuses name.

Within one upload and one partition offsets grow with the line. So the rows of a partition, in the order of
their lines, lie at the offsets of the record batches that the statuses name, in the order of the chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from k2common.columnar.arrow import arrow_schema
from k2common.columnar.decode import RecordDecoder
from k2common.columnar.encode import RecordEncoder
from k2common.columnar.record_batch import FetchedBatch, encode_batches, keys_of
from k2common.errors import DataFault, RecordError
from k2common.iceberg.archive import Archive, ContentGone
from k2common.layouts.cutter import read_header
from k2common.layouts.instruments import InstrumentIndex
from k2common.layouts.model import Layout
from k2common.layouts.upload import UploadSpec
from k2common.layouts.whole_file import parsed_chunks
from k2common.schemas.datasets import REJECTS, Dataset, avro_schema

from iceberg_sink.repair.lost_offsets import Lost, columns_of
from iceberg_sink.repair.upload_evidence import NamedRows

SCHEMA_ID = 1
BATCH_BYTES = 1024 * 1024
POSITION = ("kafka_epoch", "kafka_partition", "kafka_offset")


class NotRebuilt(Exception):
    """The rows of an upload cannot be rebuilt; the text says why."""


class UploadRows:
    """Rebuilds rows of one dataset, encoded and decoded as on their way through Kafka."""

    def __init__(self, archive: Archive, dataset: Dataset) -> None:
        schema = avro_schema(dataset.topic.schema)
        self._archive = archive
        self._dataset = dataset
        self._encoder = RecordEncoder(schema, SCHEMA_ID)
        self._decoder = RecordDecoder(arrow_schema(schema))
        self._schemas = {SCHEMA_ID: schema}

    def rebuild(
        self, spec: UploadSpec, named: NamedRows, instruments: InstrumentIndex | None, *, lost: Lost
    ) -> pa.Table:
        """Return the rows of the upload whose positions are `lost`.

        Holds one chunk and those rows in memory. Raises NotRebuilt, and TransientError when the archive does
        not answer.
        """
        placing = _Placing(named)
        found: list[pa.Table] = []
        # The cutter goes forward alone.
        file = cast(BinaryIO, ForwardFile(self._archive.content(spec.sha256)))
        try:
            for rows in self._published(file, spec, instruments):
                placed = placing.place(rows)
                found.append(placed.filter(pa.array(lost(*columns_of(placed, POSITION)))))
        except ContentGone as error:
            raise NotRebuilt("the archive no longer holds its bytes") from error
        except DataFault as error:
            raise NotRebuilt("its bytes in the archive are damaged") from error
        except RecordError as error:
            raise NotRebuilt(f"the archived bytes cannot be parsed: {error}") from error
        placing.check()
        return pa.concat_tables(found) if found else placing.place(self._decoder.schema.empty_table())

    def _published(
        self, file: BinaryIO, spec: UploadSpec, instruments: InstrumentIndex | None
    ) -> Iterator[pa.Table]:
        """Yield the rows chunk by chunk; their offsets count the rows of their partition."""
        layout = Layout.accepted(spec.layout_json)
        header = read_header(file, layout)
        done: Counter[int] = Counter()
        for parsed in parsed_chunks(file, header, layout=layout, spec=spec, instruments=instruments):
            rows = parsed.rejects if self._dataset is REJECTS else parsed.rows
            if rows.num_rows:
                yield self._decoded(rows, done)

    def _decoded(self, rows: pa.RecordBatch, done: Counter[int]) -> pa.Table:
        batches = []
        for batch in encode_batches(
            rows,
            self._encoder,
            keys=keys_of(rows, self._dataset.key),
            partitions=self._dataset.topic.partitions,
            timestamp_ms=0,
            max_bytes=BATCH_BYTES,
        ):
            base = done[batch.partition]
            batches.append(
                FetchedBatch(
                    partition=batch.partition,
                    base_offset=base,
                    count=batch.count,
                    wanted_from=base,
                    payload=memoryview(batch.payload),
                )
            )
            done[batch.partition] += batch.count
        decoded = self._decoder.decode(batches, self._schemas)
        if decoded.poison:
            raise NotRebuilt(f"a rebuilt row is no record: {decoded.poison[0].reason}")
        return decoded.rows


class ForwardFile:
    """A file that is read in pieces; nothing before the last position that was sought is held."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self._start = 0
        self._at = 0

    def seek(self, position: int) -> int:
        """Go to a position, none before the last one."""
        if position < self._start:
            raise ValueError(f"byte {position} is no longer held")
        self._fill(position)
        self._held, self._start, self._at = self._held[position - self._start :], position, position
        return position

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end of the file alone."""
        self._fill(self._at + size)
        found = self._held[self._at - self._start : self._at - self._start + size]
        self._at += len(found)
        return found

    def _fill(self, end: int) -> None:
        held = [self._held]
        length = self._start + len(self._held)
        while length < end and (piece := next(self._pieces, b"")):
            held.append(piece)
            length += len(piece)
        self._held = b"".join(held)


class _Placing:
    """Gives rows that are counted per partition the positions of their record batches."""

    def __init__(self, named: NamedRows) -> None:
        self._moved = named.moved
        self._batches: Mapping[int, npt.NDArray[np.int64]] = {
            int(partition): named.batches[named.batches[:, 0] == partition]
            for partition in np.unique(named.batches[:, 0])
        }
        self._placed: Counter[int] = Counter()

    def place(self, rows: pa.Table) -> pa.Table:
        """Return the rows at their positions, and once more those that a redrive moved."""
        partitions, counted = (rows[name].to_numpy().astype(np.int64) for name in POSITION[1:])
        epochs, offsets = np.zeros(len(counted), np.int64), np.zeros(len(counted), np.int64)
        for partition in np.unique(partitions).tolist():
            at = partitions == partition
            epochs[at], offsets[at] = self._positions(partition, counted[at])
            self._placed[partition] += int(at.sum())
        placed = _with_positions(rows, epochs, partitions, offsets)
        if not self._moved:
            return placed
        return pa.concat_tables([placed, *self._copies(placed, epochs, partitions, offsets)])

    def check(self) -> None:
        """Raise NotRebuilt unless as many rows were placed as the statuses name."""
        for partition, batches in self._batches.items():
            named = int(batches[:, 4].sum())
            if named != self._placed[partition]:
                raise self._differing(partition, named, self._placed[partition])

    def _positions(self, partition: int, counted: Any) -> tuple[Any, Any]:
        batches = self._batches.get(partition, np.zeros((0, 5), np.int64))
        ends = np.cumsum(batches[:, 4])
        if not len(ends) or counted[-1] >= ends[-1]:
            named = int(ends[-1]) if len(ends) else 0
            raise self._differing(partition, named, int(counted[-1]) + 1)
        at = np.searchsorted(ends, counted, side="right")
        return batches[at, 2], batches[at, 3] + counted - (ends[at] - batches[at, 4])

    def _differing(self, partition: int, named: int, rebuilt: int) -> NotRebuilt:
        return NotRebuilt(
            f"its statuses name {named} rows in partition {partition}, its bytes give {rebuilt} or more"
            if rebuilt > named
            else f"its statuses name {named} rows in partition {partition}, its bytes give {rebuilt}"
        )

    def _copies(self, rows: pa.Table, epochs: Any, partitions: Any, offsets: Any) -> Iterator[pa.Table]:
        for (epoch, partition, offset), (new_epoch, _, new_offset) in self._moved.items():
            at = np.flatnonzero((epochs == epoch) & (partitions == partition) & (offsets == offset))
            if len(at):
                yield _with_positions(
                    rows.take(pa.array(at)),
                    np.array([new_epoch], np.int64),
                    partitions[at],
                    np.array([new_offset], np.int64),
                )


def _with_positions(rows: pa.Table, epochs: Any, partitions: Any, offsets: Any) -> pa.Table:
    columns = {name: rows[name] for name in rows.column_names if name not in POSITION}
    columns["kafka_epoch"] = pa.array(epochs.astype(np.int32))
    columns["kafka_partition"] = pa.array(partitions.astype(np.int32))
    columns["kafka_offset"] = pa.array(offsets)
    return pa.table(columns)
