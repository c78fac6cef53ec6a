"""From the bytes of a chunk to one column per field, as text or already typed, and the rows at fault.

The whole chunk goes through Arrow's reader. Only a chunk that it refuses is read record by record, to find
which records are at fault.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from k2common.layouts.faults import COLUMN_COUNT, ENCODING_INVALID, QUOTING_INVALID, Faults
from k2common.layouts.records import BOM, Records, find_records, quotes_enclose_fields, read_fields

TRAILING = "\x00trailing"
"""Name of the column after a delimiter that ends every record; no file has such a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The columns of the file for every record of `records`; those at fault so far hold empty text."""

    data: bytes
    records: Records
    columns: Mapping[str, Any]
    faults: Faults

    @property
    def rows(self) -> int:
        return len(self.records.starts)


def read_cells(
    payload: bytes,
    *,
    names: Sequence[str],
    delimiter: str,
    types: Mapping[str, Any],
    ignored: Sequence[str],
    at_start: bool,
    encoding: str = "utf-8",
) -> Cells:
    """Read the records of a chunk, in an encoding whose ASCII bytes stand for nothing else.

    `types` are wishes: a column for which every cell fits comes in its type, else all come as text. `ignored`
    are lines that are no records. `at_start` says that the file begins here and may have a byte order mark.
    """
    data, shift = (payload[len(BOM) :], len(BOM)) if at_start and payload.startswith(BOM) else (payload, 0)
    records = _without(find_records(data, delimiter), data, ignored)
    rows = len(records.starts)
    if not rows:
        return Cells(data=data, records=records, columns=_no_rows(names), faults=Faults(0))
    text = _joined(data, records) if _has_ignored(data, ignored) else data
    wanted = _with_trailing(names, data[records.starts[0] : records.ends[0]], delimiter)
    columns = None
    if _has_one_reading(text, delimiter):
        if _has_hexadecimal(text):
            # Arrow's reader would take hexadecimal digits for an integer.
            types = {name: kind for name, kind in types.items() if not pa.types.is_integer(kind)}
        columns = _read(text, wanted, delimiter, types, rows, encoding) or _read(
            text, wanted, delimiter, {}, rows, encoding
        )
    faults = Faults(rows)
    if columns is None:
        columns = _record_by_record(data, records, names, delimiter, encoding, faults)
    shifted = Records(starts=records.starts + shift, ends=records.ends + shift, lines=records.lines)
    return Cells(data=payload, records=shifted, columns=columns, faults=faults)


def _has_one_reading(text: bytes, delimiter: str) -> bool:
    """Whether Arrow's reader sees the same records and fields as the record-by-record one.

    It drops a quote that stands where none may, and ends a record at a return alone.
    """
    if b"\r" in text and text.count(b"\r") != text.count(b"\r\n"):
        return False
    return b'"' not in text or quotes_enclose_fields(text, delimiter)


def _has_hexadecimal(text: bytes) -> bool:
    # Searching bytes for 0x takes ten times as long in a text full of zeros.
    octets = np.frombuffer(text, np.uint8)
    letters = (octets[1:] == ord("x")) | (octets[1:] == ord("X"))
    return bool((letters & (octets[:-1] == ord("0"))).any())


def _read(
    text: bytes, names: Sequence[str], delimiter: str, types: Mapping[str, Any], rows: int, encoding: str
) -> dict[str, Any] | None:
    try:
        table = pacsv.read_csv(
            pa.py_buffer(text),
            read_options=pacsv.ReadOptions(
                column_names=list(names),
                use_threads=False,
                # A recoded text is at most three times as long.
                block_size=len(text) * (1 if encoding == "utf-8" else 3) + 1,
                encoding=encoding,
            ),
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in text),
            convert_options=pacsv.ConvertOptions(
                column_types={name: types.get(name, pa.string()) for name in names},
                null_values=[""],
                strings_can_be_null=False,
            ),
        )
        # Arrow's reader takes a decimal beyond its precision, which Parquet would then wrap.
        table.validate(full=True)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    if table.num_rows != rows:
        return None
    columns = {name: table[name].combine_chunks() for name in names}
    trailing = columns.pop(TRAILING, None)
    if trailing is not None and pa.compute.any(pa.compute.not_equal(trailing, "")).as_py():
        return None
    return columns


def _with_trailing(names: Sequence[str], first: bytes, delimiter: str) -> Sequence[str]:
    if first.endswith(delimiter.encode()) and first.count(delimiter.encode()) == len(names):
        return [*names, TRAILING]
    return names


def _has_ignored(data: bytes, ignored: Sequence[str]) -> bool:
    return any(line.encode() in data for line in ignored)


def _without(records: Records, data: bytes, ignored: Sequence[str]) -> Records:
    if not _has_ignored(data, ignored):
        return records
    lines = {line.encode() for line in ignored}
    spans = zip(records.starts.tolist(), records.ends.tolist(), strict=True)
    kept = np.array([data[start:end].strip() not in lines for start, end in spans], bool)
    return Records(starts=records.starts[kept], ends=records.ends[kept], lines=records.lines[kept])


def _joined(data: bytes, records: Records) -> bytes:
    return b"\n".join(
        data[start:end] for start, end in zip(records.starts.tolist(), records.ends.tolist(), strict=True)
    )


def _no_rows(names: Sequence[str]) -> dict[str, Any]:
    return {name: pa.array([], pa.string()) for name in names}


def _record_by_record(
    data: bytes, records: Records, names: Sequence[str], delimiter: str, encoding: str, faults: Faults
) -> dict[str, Any]:
    width = len(names)
    empty = [""] * width
    rows: list[list[str]] = []
    bad: dict[tuple[str, str], list[int]] = {}
    spans = zip(records.starts.tolist(), records.ends.tolist(), strict=True)
    for row, (start, end) in enumerate(spans):
        fields, reason = _fields(data[start:end], delimiter, width, encoding)
        rows.append(fields if reason is None else empty)
        if reason is not None:
            bad.setdefault(reason, []).append(row)
    for (code, message), at in bad.items():
        mask = np.zeros(len(rows), bool)
        mask[at] = True
        faults.mark(mask, code=code, column=None, message=message)
    return {name: pa.array([row[n] for row in rows], pa.string()) for n, name in enumerate(names)}


def _fields(
    record: bytes, delimiter: str, width: int, encoding: str
) -> tuple[list[str], tuple[str, str] | None]:
    try:
        fields = read_fields(record.decode(encoding), delimiter, strict=True)
    except UnicodeDecodeError:
        return [], (ENCODING_INVALID, f"the record is not {encoding.upper()}")
    except (csv.Error, ValueError):
        return [], (QUOTING_INVALID, "the record's quotes do not match")
    if len(fields) == width + 1 and not fields[-1]:
        fields.pop()
    if len(fields) != width:
        return [], (COLUMN_COUNT, f"the record has {len(fields)} fields and not {width}")
    return fields, None
