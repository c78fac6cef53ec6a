"""Rows of any columns as text and files: decimals and nanoseconds exact, times with nine digits, no NaN."""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from duckdb import CaseExpression, ColumnExpression, ConstantExpression, FunctionExpression

from k2common.engine.statements import StatementRefused
from k2common.engine.text import is_wide, lines

MICROSECONDS = "%Y-%m-%dT%H:%M:%S.%f000"
NANOSECONDS = "%Y-%m-%dT%H:%M:%S.%n"
TEXT = duckdb.sqltype("VARCHAR")
QUOTE = '"'
DOUBTFUL = '^$|[",\\r\\n]'
AS_TEXT = frozenset(
    {"hugeint", "ubigint", "uhugeint", "interval", "uuid", "enum", "bit", "blob", "time", "time_ns"}
)


def one_name_each(names: Sequence[str]) -> None:
    """Raise StatementRefused where two columns have one name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise StatementRefused(f"two columns are named {twice[0]!r}; name one with AS", malformed=True)


class _Text:
    """A format that the engine writes, a batch at a time."""

    def __init__(self, schema: Any, cursor: Any) -> None:
        self._names = list(schema.names)
        # Whatever a column is called, it stands in an expression under a name of ours.
        self._inner = [f"c{place}" for place in range(len(schema))]
        self._cursor = cursor

    def _given(self, batch: pa.RecordBatch) -> Any:
        return self._cursor.from_arrow(pa.table(batch).rename_columns(self._inner))

    def _columns(self, given: Any) -> Iterator[tuple[str, Any, Any]]:
        """Name, column and type of each."""
        columns = (ColumnExpression(name) for name in self._inner)
        return zip(self._names, columns, given.types, strict=True)


class Ndjson(_Text):
    """One JSON object a line."""

    def start(self) -> bytes:
        """What stands before the rows."""
        return b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """A batch's rows."""
        given = self._given(batch)
        pairs: list[Any] = []
        for name, column, kind in self._columns(given):
            pairs += [ConstantExpression(name), exact(name, column, kind)]
        row = FunctionExpression("json_object", *pairs).cast(TEXT).alias("text")
        return lines(given.select(row).to_arrow_table()["text"].combine_chunks())

    def end(self) -> bytes:
        """What stands after the rows."""
        return b""


class Csv(_Text):
    """A header, then a record a row; null is nothing, lists and structs are JSON."""

    def start(self) -> bytes:
        """The header."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow(self._names)
        return out.getvalue().encode()

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """A batch's records."""
        given = self._given(batch)
        cells = [_cell(flat(name, column, kind)) for name, column, kind in self._columns(given)]
        record = FunctionExpression("concat_ws", ConstantExpression(","), *cells).alias("text")
        return lines(given.select(record).to_arrow_table()["text"].combine_chunks())

    def end(self) -> bytes:
        """Nothing."""
        return b""


class _File(ABC):
    """A format whose writer puts bytes into a buffer that is emptied after each batch."""

    def __init__(self, schema: Any, cursor: Any) -> None:
        self._out = io.BytesIO()
        self._writer = self._open(schema)

    @abstractmethod
    def _open(self, schema: Any) -> Any:
        """The writer."""

    def start(self) -> bytes:
        """What stands before the rows."""
        return self._taken()

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """A batch's bytes."""
        self._writer.write_batch(batch)
        return self._taken()

    def end(self) -> bytes:
        """What ends the file."""
        self._writer.close()
        return self._taken()

    def _taken(self) -> bytes:
        data = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return data


class ArrowStream(_File):
    """Arrow's IPC stream; without rows it has its schema."""

    def _open(self, schema: Any) -> Any:
        return pa.ipc.new_stream(self._out, schema)


class Parquet(_File):
    """One Parquet file, a row group a batch."""

    def _open(self, schema: Any) -> Any:
        return pq.ParquetWriter(_Forward(self._out), schema, compression="zstd")


class _Forward(io.RawIOBase):
    """Counts on where the file stands although what was written is taken away."""

    def __init__(self, out: io.BytesIO) -> None:
        self._out = out
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        count = self._out.write(data)
        self._at += count
        return count


FORMATS: Mapping[str, Any] = {
    "json": Ndjson,
    "ndjson": Ndjson,
    "csv": Csv,
    "arrow": ArrowStream,
    "parquet": Parquet,
}


def exact(name: str, column: Any, kind: Any) -> Any:
    """A column as a JSON value that loses nothing: as itself where JSON can say it, else as text."""
    if kind.id == "decimal":
        text = column.cast(TEXT)
        if dict(kind.children)["scale"] == 0:
            return text
        bare = FunctionExpression("rtrim", text, ConstantExpression("0"))
        return FunctionExpression("rtrim", bare, ConstantExpression("."))
    if kind.id in ("timestamp with time zone", "timestamp", "timestamp_ns", "timestamp_s", "timestamp_ms"):
        form = NANOSECONDS if kind.id == "timestamp_ns" else MICROSECONDS
        zone = "Z" if kind.id == "timestamp with time zone" else ""
        return FunctionExpression("strftime", column, ConstantExpression(form + zone))
    if kind.id in ("double", "float"):
        finite = FunctionExpression("isfinite", column)
        return CaseExpression(finite, column)
    if kind.id == "bigint" and is_wide(name):
        return column.cast(TEXT)
    if kind.id in AS_TEXT:
        return column.cast(TEXT)
    inside = _inside(kind)
    return column if str(inside) == str(kind) else column.cast(inside)


def flat(name: str, column: Any, kind: Any) -> Any:
    """A column as text for CSV."""
    value = exact(name, column, kind)
    if kind.id in ("list", "array", "struct", "map"):
        value = FunctionExpression("to_json", value)
    return value.cast(TEXT)


def _cell(text: Any) -> Any:
    """Text as it stands between delimiters: in quotes where a reader would be in doubt, nothing for null."""
    doubtful = FunctionExpression("regexp_matches", text, ConstantExpression(DOUBTFUL))
    inner = FunctionExpression("replace", text, ConstantExpression(QUOTE), ConstantExpression(QUOTE * 2))
    quoted = FunctionExpression("concat", ConstantExpression(QUOTE), inner, ConstantExpression(QUOTE))
    missing = text.isnull()
    return CaseExpression(missing, ConstantExpression("")).when(doubtful, quoted).otherwise(text)


def _inside(kind: Any) -> Any:
    """The same nested type with text where JSON would lose digits."""
    if kind.id in ("list", "array"):
        return duckdb.list_type(_inside(dict(kind.children)["child"]))
    if kind.id == "struct":
        return duckdb.struct_type({name: _inside(child) for name, child in kind.children})
    if kind.id == "map":
        children = dict(kind.children)
        return duckdb.map_type(_inside(children["key"]), _inside(children["value"]))
    return TEXT if kind.id in ("decimal", "double", "float", *AS_TEXT) else kind
