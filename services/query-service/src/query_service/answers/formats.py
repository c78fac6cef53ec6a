"""Rows as bytes in each format: the same rows in the same order, a part at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from k2common.engine.scan import Parameters
from k2common.engine.shape import Shape
from k2common.engine.text import lines

ROW_GROUP_ROWS = 65_536


class Writer(Protocol):
    """Makes the bytes of a stream out of batches that have the columns of `select`."""

    batch_rows: int

    def select(self, parameters: Parameters) -> str:
        """The columns that the writer takes, as SQL."""

    def start(self, schema: pa.Schema) -> bytes:
        """The bytes before the rows; `schema` is that of the batches."""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """The bytes of these rows; they may come later."""

    def end(self) -> bytes:
        """The bytes after the rows."""


def writer(form: str, shape: Shape, known: Mapping[str, str]) -> Writer:
    """The writer of a format; `known` is put before the rows where the format has a place for it."""
    if form == "ndjson":
        return _Ndjson(shape)
    if form == "csv":
        return _Csv(shape)
    return _Arrow(shape, known) if form == "arrow" else _Parquet(shape, known)


class CountedWriter:
    """A writer whose rows are told to `count`, part by part."""

    def __init__(self, made: Writer, count: Callable[[int], None]) -> None:
        self._made = made
        self._count = count
        self.batch_rows = made.batch_rows
        self.select = made.select
        self.start = made.start
        self.end = made.end

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """The bytes of these rows."""
        self._count(batch.num_rows)
        return self._made.rows(batch)


class _Ndjson:
    batch_rows = 16_384

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def select(self, parameters: Parameters) -> str:
        return f"{self._shape.json(parameters)} AS text"

    def start(self, schema: pa.Schema) -> bytes:
        return b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        return lines(batch.column("text"))

    def end(self) -> bytes:
        return b""


class _Csv:
    batch_rows = 16_384

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def select(self, parameters: Parameters) -> str:
        return self._shape.text(parameters)

    def start(self, schema: pa.Schema) -> bytes:
        head = io.StringIO()
        csv.writer(head, lineterminator="\n").writerow(self._shape.fields)
        return head.getvalue().encode()

    def rows(self, batch: pa.RecordBatch) -> bytes:
        text: str = pl.DataFrame(pl.from_arrow(batch)).write_csv(include_header=False)
        return text.encode()

    def end(self) -> bytes:
        return b""


class _Columnar:
    batch_rows = ROW_GROUP_ROWS

    def __init__(self, shape: Shape, known: Mapping[str, str]) -> None:
        self._shape = shape
        self._known = known
        self._out = io.BytesIO()
        self._schema = pa.schema([])

    def select(self, parameters: Parameters) -> str:
        return self._shape.native(parameters)

    def _named(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [column.cast(field.type) for column, field in zip(batch.columns, self._schema, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _begin(self, schema: pa.Schema) -> None:
        self._schema = self._shape.named(schema).with_metadata(dict(self._known))

    def _taken(self) -> bytes:
        data = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return data


class _Arrow(_Columnar):
    def start(self, schema: pa.Schema) -> bytes:
        self._begin(schema)
        self._writer: Any = pa.ipc.new_stream(self._out, self._schema)
        return self._taken()

    def rows(self, batch: pa.RecordBatch) -> bytes:
        self._writer.write_batch(self._named(batch))
        return self._taken()

    def end(self) -> bytes:
        self._writer.close()
        return self._taken()


class _Parquet(_Columnar):
    """Batches are collected to row groups; a file's footer is what it has written of them, and small."""

    def start(self, schema: pa.Schema) -> bytes:
        self._begin(schema)
        # The sink is written in one direction: what was taken out of it is never needed again.
        self._sink = _Forward(self._out)
        self._writer: Any = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"), self._schema, compression="zstd", compression_level=1
        )
        self._pending: list[pa.RecordBatch] = []
        return self._taken()

    def rows(self, batch: pa.RecordBatch) -> bytes:
        self._pending.append(self._named(batch))
        if sum(part.num_rows for part in self._pending) >= ROW_GROUP_ROWS:
            self._flush()
        return self._taken()

    def end(self) -> bytes:
        self._flush()
        self._writer.close()
        return self._taken()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_batches(self._pending))
            self._pending = []


class _Forward:
    """A file that knows how far it was written, and keeps only what `out` still has."""

    closed = False

    def __init__(self, out: io.BytesIO) -> None:
        self._out = out
        self._at = 0

    def write(self, data: bytes) -> int:
        self._at += len(data)
        return self._out.write(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True
