"""A slow and obvious reader of CSV, a record and a cell at a time: what the fast one is compared with.

It knows the three layouts of the tests by what they mean, not by the code that reads them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
INTEGER = re.compile(r"-?[0-9]+")
ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.([0-9]{1,9}))?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})?"
)
NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - of local times
BOM = b"\xef\xbb\xbf"


class Refused(Exception):
    """The row is a reject."""


@dataclass(kw_only=True)
class Read:
    """What became of a file's records."""

    accepted: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[tuple[int, int]] = field(default_factory=list)
    filtered: int = 0


def records(data: bytes, delimiter: str) -> Iterator[tuple[int, int, bytes]]:
    """Line, offset and bytes of each record; a quote opens where a field begins or right after one closed."""
    start = line = first_line = 0
    inside = False
    last_quote = -2
    for at, byte in enumerate(data):
        char = chr(byte)
        if char == '"':
            if inside:
                inside, last_quote = False, at
            elif at == 0 or chr(data[at - 1]) in (delimiter, "\n") or last_quote == at - 1:
                inside, last_quote = True, at
        elif char == "\n":
            line += 1
            if not inside:
                yield first_line, start, data[start:at]
                start, first_line = at + 1, line
    yield first_line, start, data[start:]


def read(
    data: bytes,
    *,
    names: Sequence[str] | None,
    delimiter: str,
    encoding: str,
    row: Any,
    wanted: Any = None,
) -> Read:
    """Read a file; the first record has the names where none are given."""
    found = Read()
    shift = len(BOM) if data.startswith(BOM) else 0
    for line, offset, raw in records(data[shift:], delimiter):
        record = raw[:-1] if raw.endswith(b"\r") else raw
        if not record:
            continue
        if names is None:
            names = next(csv.reader([record.decode(encoding)], delimiter=delimiter))
            continue
        try:
            cells = dict(zip(names, _fields(record, len(names), delimiter, encoding), strict=True))
            if wanted is not None and not wanted(cells):
                found.filtered += 1
                continue
            found.accepted.append({**row(cells), "line": line + 1})
        except Refused:
            found.rejected.append((line + 1, offset + shift))
    return found


def _fields(record: bytes, width: int, delimiter: str, encoding: str) -> list[str]:
    try:
        text = io.StringIO(record.decode(encoding), newline="\n")
        (fields,) = csv.reader(text, delimiter=delimiter, strict=True)
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise Refused from error
    if len(fields) == width + 1 and not fields[-1]:
        fields.pop()
    if len(fields) != width:
        raise Refused
    return fields


def decimal(cell: str, *, required: bool = True, scale: int | None = None) -> Decimal | None:
    """An exact decimal with up to 16 digits before and 12 after the point, not below 0."""
    text = cell.strip(" \t")
    if not text:
        if required:
            raise Refused
        return None
    if scale is not None:
        whole = integer(cell)
        assert whole is not None
        value = Decimal(whole).scaleb(-scale)
    elif NUMBER.fullmatch(text):
        value = Decimal(text)
    else:
        raise Refused
    if value < 0 or value >= Decimal(10) ** 16 or value != round(value, 12):
        raise Refused
    return value


def integer(cell: str) -> int | None:
    """64 bits; null where empty."""
    text = cell.strip(" \t")
    if not text:
        return None
    if not INTEGER.fullmatch(text) or not -(2**63) <= int(text) < 2**63:
        raise Refused
    return int(text)


def nanoseconds(cell: str, zone: str) -> int:
    """A time of ISO 8601; one without a zone is in `zone`, and none that it has twice or never."""
    match = ISO.fullmatch(cell.strip(" \t"))
    if match is None:
        raise Refused
    day, clock, fraction, offset = match.groups()
    if fraction and len(clock) < 8:
        raise Refused
    try:
        naive = datetime.fromisoformat(f"{day}T{clock}")
        if offset:
            aware = datetime.fromisoformat(f"{day}T{clock}{offset.replace('Z', '+00:00')}")
            naive = aware.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise Refused from error
    if not offset:
        naive = _utc(naive, zone)
    seconds = (naive - NAIVE_EPOCH) // timedelta(seconds=1)
    return plausible(seconds * 10**9 + int((fraction or "").ljust(9, "0")))


def _utc(naive: datetime, zone: str) -> datetime:
    known = {
        naive.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC).replace(tzinfo=None)
        for fold in (0, 1)
    }
    if len(known) != 1:
        raise Refused
    return known.pop()


def plausible(value: int) -> int:
    """From 1980 until 2100."""
    first, end = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 10**9 for year in (1980, 2100))
    if not first <= value < end:
        raise Refused
    return value


def choice(cell: str, values: Mapping[str, str]) -> str:
    """One of the words, whatever its case."""
    word = cell.strip().lower()
    if not word:
        return "unknown"
    if word not in values:
        raise Refused
    return values[word]
