"""Cuts a file into chunks of whole records: the same bytes give the same chunks, from any chunk on."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from k2common.errors import RecordError
from k2common.layouts.checks import QUOTE_SIDES
from k2common.layouts.model import Layout
from k2common.layouts.records import BOM, read_fields, record_ends
from k2common.layouts.rules import Time, columns_of

CHUNK_BYTES = 512 * 1024
RECORD_BYTES = 2 * 1024 * 1024
"""A record may be longer than a chunk, but no longer than this."""

NAME_CHARACTERS = 4096

HEADER_MISMATCH = "HEADER_MISMATCH"


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPosition:
    """Where the next chunk begins."""

    chunk: int = 0
    byte: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkCut:
    """One chunk, and where the next one begins."""

    start: CutPosition
    payload: bytes
    after: CutPosition


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header record as it stands in the file, its names, and where the rows begin."""

    text: str
    names: Sequence[str]
    after: CutPosition


def cut(
    file: BinaryIO, start: CutPosition, *, delimiter: str, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[ChunkCut]:
    """The chunks from `start` to the file's end, each of whole records and at least one.

    A chunk is larger than `chunk_bytes` only where a single record is. Raises RecordError for a record longer
    than RECORD_BYTES.
    """
    position = start
    while True:
        # Each chunk depends on its start alone, so that a restart cuts the same.
        file.seek(position.byte)
        data = file.read(chunk_bytes)
        size = _whole_records(data, delimiter)
        while not size and (more := file.read(chunk_bytes)):
            if len(data) > RECORD_BYTES:
                raise RecordError(f"the record at line {position.line} is longer than {RECORD_BYTES} bytes")
            data += more
            size = _first_record(data, delimiter)
        payload = data[:size] if size else data
        if not payload:
            return
        after = CutPosition(
            chunk=position.chunk + 1,
            byte=position.byte + len(payload),
            line=position.line + payload.count(b"\n"),
        )
        yield ChunkCut(start=position, payload=payload, after=after)
        position = after


def read_header(file: BinaryIO, layout: Layout) -> Header | None:
    """The header of the file, or None where the layout has none or the file no record.

    Raises RecordError when a column that the layout needs is missing, when one stands twice, or when the
    layout knows no use for one.
    """
    if not layout.header:
        return None
    file.seek(0)
    data = file.read(RECORD_BYTES)
    at = len(BOM) if data.startswith(BOM) else 0
    line = 1
    while at < len(data) and data[at] in b"\r\n":
        line += data[at] == ord("\n")
        at += 1
    ends = record_ends(data[at:], layout.delimiter)
    end = at + int(ends[0]) + 1 if len(ends) else len(data)
    if at == end:
        return None
    try:
        text = data[at:end].decode(layout.encoding).rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise RecordError(f"the header is not {layout.encoding.upper()}: {error}") from error
    names = header_names(text, layout)
    check_header(names, layout)
    after = CutPosition(byte=end, line=line + data[at:end].count(b"\n"))
    return Header(text=text, names=names, after=after)


def header_names(text: str, layout: Layout) -> Sequence[str]:
    """The names in a header record; one trailing empty field is no column.

    Raises RecordError for a text that is no record of CSV.
    """
    try:
        fields = read_fields(text, layout.delimiter, strict=False) if text else []
    except (csv.Error, ValueError) as error:
        raise RecordError(f"the header is no record of CSV: {error}") from error
    names = [name.strip() for name in fields]
    if any(len(name) > NAME_CHARACTERS for name in names):
        raise RecordError(f"the name of a column is longer than {NAME_CHARACTERS} characters")
    return names[:-1] if names and not names[-1] else names


def check_header(names: Sequence[str], layout: Layout) -> None:
    """Raise RecordError unless the layout can read a file with these columns."""
    faults = [f"column {name!r} stands twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    faults += [f"column {name!r} is missing" for name in layout.needed_columns() if name not in names]
    if layout.unknown_columns == "refuse":
        known = layout.ruled_columns()
        faults += [f"column {name!r} is not known" for name in names if name not in known]
    times = [rule for rule in layout.fields.values() if isinstance(rule, Time)]
    ways = [way.columns for rule in times for way in rule.ways]
    if ways and not any(set(columns) <= set(names) for columns in ways):
        wanted = " or ".join(" and ".join(map(repr, columns)) for columns in ways)
        faults.append(f"a time is missing: {wanted}")
    faults += _side_fault(names, layout)
    if faults:
        raise RecordError(f"the header does not fit layout {layout.name}: {'; '.join(faults)}")


def _side_fault(names: Sequence[str], layout: Layout) -> list[str]:
    """The fault of a file of quotes that has neither a bid nor an ask."""
    rules = [layout.fields[side] for side in QUOTE_SIDES if side in layout.fields]
    columns = [column for rule in rules for column in columns_of(rule)]
    if layout.dataset != "quotes" or not columns or set(columns) & set(names):
        return []
    return [f"a bid or an ask is missing: {' or '.join(map(repr, columns))}"]


def _whole_records(data: bytes, delimiter: str) -> int:
    ends = record_ends(data, delimiter)
    return int(ends[-1]) + 1 if len(ends) else 0


def _first_record(data: bytes, delimiter: str) -> int:
    ends = record_ends(data, delimiter)
    return int(ends[0]) + 1 if len(ends) else 0
