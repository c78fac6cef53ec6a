"""Rows as JSON and CSV by the engine: decimals and wide integers as exact text, times with nine digits."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2common.columnar.arrow import Column, arrow_schema_of
from k2common.schemas.datasets import Dataset, OwnTable

TYPES = {"trades": "trade", "quotes": "quote"}
"""A row's `type` in a stream of several datasets."""


def columns_of(dataset: Dataset | OwnTable) -> list[str]:
    """The dataset's columns as every format gives them, in their order."""
    return list(arrow_schema_of(dataset.schema).names)


def json_expression(dataset: Dataset | OwnTable, *, typed: bool = False) -> str:
    """An SQL expression for a row as one JSON object; `typed` puts `type` first."""
    schema = arrow_schema_of(dataset.schema)
    entries = [f"'type': '{TYPES[dataset.name]}'"] if typed else []
    entries += [f"'{field.name}': {exact(field)}" for field in schema]
    return f"to_json({{{', '.join(entries)}}})"


def text_expressions(dataset: Dataset | OwnTable) -> str:
    """The dataset's columns as text for CSV; lists and maps as JSON, null as nothing."""
    schema = arrow_schema_of(dataset.schema)
    return ", ".join(f"{flat(field)} AS {quoted(field.name)}" for field in schema)


def lines(texts: Column) -> bytes:
    """The texts, each on a line of its own; one copy of the bytes and no object per row."""
    if not len(texts):
        return b""
    ended = pc.binary_join_element_wise(texts, "\n", "")
    _, offsets, data = ended.buffers()
    ends = np.frombuffer(offsets, np.int32)[ended.offset : ended.offset + len(ended) + 1]
    taken: bytes = data[int(ends[0]) : int(ends[-1])].to_pybytes()
    return taken


def quoted(name: str) -> str:
    """A column's name as an SQL identifier."""
    return f'"{name}"'


MICROSECONDS = {"ts_event": "ts_event_ns", "ts_ingest": "epoch_us(ts_ingest) * 1000"}
"""Times in microseconds, and their nanoseconds."""


def is_wide(name: str) -> bool:
    """Whether a column of 64-bit integers may hold more than 2^53, which JavaScript cannot hold exactly.

    Decided by name, so that a column has one JSON type: times in nanoseconds, and sequence numbers, which are
    the venue's. Lines, counts and flags stay far below.
    """
    return name.endswith(("_ns", "sequence"))


def exact(field: pa.Field, *, numbers: bool = False, nanoseconds: bool = False) -> str:
    """A column for JSON: decimals and wide integers as text, times as RFC 3339 with nine digits.

    `numbers` gives decimals as doubles, `nanoseconds` gives times as text of integers.
    """
    name = quoted(field.name)
    if pa.types.is_timestamp(field.type):
        return _time(field.name, nanoseconds=nanoseconds)
    if pa.types.is_decimal(field.type):
        return f"CAST({name} AS DOUBLE)" if numbers else f"rtrim(rtrim(CAST({name} AS VARCHAR), '0'), '.')"
    if pa.types.is_int64(field.type) and is_wide(field.name):
        return f"CAST({name} AS VARCHAR)"
    return name


def flat(field: pa.Field, *, numbers: bool = False, nanoseconds: bool = False) -> str:
    """A column as text for CSV."""
    if pa.types.is_nested(field.type):
        return f"CAST(to_json({quoted(field.name)}) AS VARCHAR)"
    return f"CAST({exact(field, numbers=numbers, nanoseconds=nanoseconds)} AS VARCHAR)"


def _time(name: str, *, nanoseconds: bool) -> str:
    if nanoseconds and name in MICROSECONDS:
        return f"CAST({MICROSECONDS[name]} AS VARCHAR)"
    if name == "ts_event":
        # The microseconds are for partitions; the exact time is in nanoseconds.
        return "strftime(make_timestamp_ns(ts_event_ns), '%Y-%m-%dT%H:%M:%S.%n') || 'Z'"
    return f"strftime({quoted(name)}, '%Y-%m-%dT%H:%M:%S.%f') || '000Z'"
