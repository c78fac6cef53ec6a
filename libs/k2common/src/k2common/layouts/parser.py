"""One chunk of CSV to rows of its dataset and rejects, in columns; the same answer on every try."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from k2common.columnar.arrow import DECIMAL, Column, arrow_schema
from k2common.errors import RecordError
from k2common.layouts.cells import PER_UNIT
from k2common.layouts.checks import GIVEN
from k2common.layouts.cutter import header_names
from k2common.layouts.filtering import without_filtered
from k2common.layouts.instruments import InstrumentIndex
from k2common.layouts.mapping import Mapper, constant
from k2common.layouts.model import Layout
from k2common.layouts.reading import Cells, read_cells
from k2common.layouts.rules import (
    Choice,
    Instrument,
    Integer,
    Number,
    Rule,
    Text,
    Time,
    Words,
    columns_of,
)
from k2common.layouts.upload import UploadSpec
from k2common.schemas.datasets import DATASETS, REJECTS, avro_schema

STRING = pa.string()
CODED = pa.dictionary(pa.int32(), STRING)
RAW_BYTES = 4096
"""A reject's raw text is cut after so many bytes."""
REASON_CHARACTERS = 300


class UnparseableError(RecordError):
    """The layout cannot read this chunk at all."""

    @classmethod
    def from_error(cls, error: Exception) -> UnparseableError:
        """Return the error with the kind and the message of the one that a library raised."""
        return cls(f"{type(error).__name__}: {error}"[:REASON_CHARACTERS])


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedChunk:
    """What became of the records of a chunk; `rows_read` is the sum of the other counts.

    `rows` and `rejects` have the columns of their datasets; columns of few values are dictionary arrays.
    `errors` counts rejects by column and code.
    """

    rows: pa.RecordBatch
    rejects: pa.RecordBatch
    rows_read: int
    rows_accepted: int
    rows_rejected: int
    rows_filtered: int
    errors: Mapping[tuple[str | None, str], int]


def parse(
    payload: bytes,
    *,
    layout: Layout,
    header: str | None,
    first_byte: int,
    first_line: int,
    spec: UploadSpec,
    instruments: InstrumentIndex | None,
) -> ParsedChunk:
    """Parse a chunk whose first byte and physical line are given; `header` is the file's header record.

    Raises RecordError, and nothing else, for a chunk that cannot be read at all.
    """
    try:
        return _parse(payload, layout, header, first_byte, first_line, spec, instruments)
    except RecordError:
        raise
    # Layout and file come from a stranger, so whatever a library raises here is a fault of this upload alone.
    except Exception as error:
        raise UnparseableError.from_error(error) from error


def _parse(
    payload: bytes,
    layout: Layout,
    header: str | None,
    first_byte: int,
    first_line: int,
    spec: UploadSpec,
    instruments: InstrumentIndex | None,
) -> ParsedChunk:
    names = layout.columns if header is None else header_names(header, layout)
    cells = read_cells(
        payload,
        names=names,
        delimiter=layout.delimiter,
        types=_typed(layout),
        ignored=layout.ignore_lines,
        at_start=first_byte == 0,
        encoding=layout.encoding,
    )
    cells, filtered = without_filtered(cells, layout.where)
    mapper = Mapper(cells=cells, layout=layout, spec=spec, instruments=instruments)
    columns = mapper.columns()
    columns["line"] = pa.array(cells.records.lines + first_line)
    rows = _batch(columns, avro_schema(DATASETS[layout.dataset].topic.schema), cells.rows)
    bad = cells.faults.rows
    rejected = int(bad.sum())
    if rejected:
        rows = rows.filter(pa.array(~bad))
    return ParsedChunk(
        rows=rows,
        rejects=_rejects(cells, spec, layout.encoding, first_byte=first_byte, first_line=first_line),
        rows_read=cells.rows + filtered,
        rows_accepted=cells.rows - rejected,
        rows_rejected=rejected,
        rows_filtered=filtered,
        errors=cells.faults.counts(),
    )


def _typed(layout: Layout) -> Mapping[str, Any]:
    """Return the types as which columns may be read at once; one that two rules read differently is text.

    Columns of few values come as dictionary arrays, which whoever wants text can read too.
    """
    wanted: dict[str, set[Any]] = defaultdict(set)
    for target, rule in layout.fields.items():
        for column, kind in _wanted(target, rule):
            wanted[column].add(kind)
    for column in (*layout.where, *layout.off_market.columns):
        wanted[column].add(CODED)
    for column in layout.attributes:
        wanted[column].add(STRING)
    for kinds in wanted.values():
        if CODED in kinds:
            kinds.discard(STRING)
    return {column: kinds.pop() if len(kinds) == 1 else STRING for column, kinds in wanted.items()}


def _wanted(target: str, rule: Rule) -> Iterator[tuple[str, Any]]:
    if isinstance(rule, Time):
        for way in rule.ways:
            kind = pa.int64() if way.format in PER_UNIT else STRING
            yield from ((column, kind) for column in way.columns)
        return
    kind = STRING
    if isinstance(rule, (Choice, Words)) or (isinstance(rule, (Text, Instrument)) and target in GIVEN):
        kind = CODED
    elif isinstance(rule, Number):
        kind = DECIMAL if rule.scale is None else pa.int64()
    elif isinstance(rule, Integer):
        kind = pa.int64()
    yield from ((column, kind) for column in columns_of(rule))


def _batch(columns: Mapping[str, Column], avro: Mapping[str, Any], rows: int) -> pa.RecordBatch:
    fields = []
    arrays = []
    for field in arrow_schema(avro):
        column = columns.get(field.name)
        array = constant(None, field.type, rows) if column is None else column
        arrays.append(array)
        fields.append(pa.field(field.name, array.type, nullable=field.nullable))
    # A row at fault may hold a null where its dataset has none until it is filtered out.
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([f.with_nullable(True) for f in fields]))


def _rejects(
    cells: Cells, spec: UploadSpec, encoding: str, *, first_byte: int, first_line: int
) -> pa.RecordBatch:
    bad = np.flatnonzero(cells.faults.rows)
    starts, ends = cells.records.starts[bad], cells.records.ends[bad]
    columns: dict[str, Column] = {
        "upload_id": constant(spec.upload_id, pa.string(), len(bad)),
        "dataset": constant(spec.dataset, pa.string(), len(bad)),
        "source": constant(spec.source, pa.string(), len(bad)),
        "filename": constant(spec.filename, pa.string(), len(bad)),
        "ts_ingest": constant(spec.received_at, pa.timestamp("us", "UTC"), len(bad)),
        "line": pa.array(cells.records.lines[bad] + first_line),
        "byte_offset": pa.array(starts + first_byte),
        "raw": pa.array(_raw(cells.data, starts.tolist(), ends.tolist(), encoding), pa.string()),
        **cells.faults.columns(),
    }
    return _batch(columns, avro_schema(REJECTS.topic.schema), len(bad))


def _raw(data: bytes, starts: Sequence[int], ends: Sequence[int], encoding: str) -> list[str]:
    return [
        data[start : min(end, start + RAW_BYTES)].decode(encoding, "backslashreplace")
        for start, end in zip(starts, ends, strict=True)
    ]
