"""Where records begin and end in CSV text: at newlines that no quotes enclose."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

NEWLINE = 0x0A
RETURN = 0x0D
QUOTE = 0x22
FIELD_CHARACTERS = 2**31 - 1
BOM = b"\xef\xbb\xbf"

Offsets: TypeAlias = "npt.NDArray[np.int64]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Records of a text that begins with one: their bytes `starts` to `ends`, without the line's end.

    `lines` counts the newlines before each record, quoted ones too. Blank records are left out.
    """

    starts: Offsets
    ends: Offsets
    lines: Offsets


def read_fields(record: str, delimiter: str, *, strict: bool) -> list[str]:
    """Return the fields of one record.

    Raises csv.Error where its quotes do not match, ValueError where it is not one record.
    """
    # The module's own limit is smaller than a record may be; what bounds a record is its length.
    csv.field_size_limit(FIELD_CHARACTERS)
    # Nothing but a newline ends a line; text has other characters that Python would split at.
    lines = io.StringIO(record, newline="\n")
    (fields,) = csv.reader(lines, delimiter=delimiter, strict=strict)
    return fields


def record_ends(data: bytes, delimiter: str) -> Offsets:
    """Positions of the newlines that end a record, in ascending order."""
    octets = np.frombuffer(data, np.uint8)
    newlines: Offsets = np.flatnonzero(octets == NEWLINE)
    if b'"' not in data:
        return newlines
    quotes = np.flatnonzero(octets == QUOTE)
    if not _opens_fields(octets, quotes, ord(delimiter)):
        quotes = _enclosing(octets, quotes, ord(delimiter))
    inside = np.searchsorted(quotes, newlines) % 2 == 1
    ends: Offsets = newlines[~inside]
    return ends


def find_records(data: bytes, delimiter: str) -> Records:
    """All records of `data`; the last one needs no newline."""
    octets = np.frombuffer(data, np.uint8)
    newlines = record_ends(data, delimiter)
    starts = np.concatenate([np.zeros(1, np.int64), newlines + 1])
    ends = np.concatenate([newlines, np.array([len(data)], np.int64)])
    # A record that ends in \r\n ends before the \r.
    returned = (ends > starts) & (octets[np.maximum(ends - 1, 0)] == RETURN) if len(data) else ends > starts
    ends = ends - returned
    if b'"' in data:
        lines = np.searchsorted(np.flatnonzero(octets == NEWLINE), starts)
    else:
        lines = np.arange(len(starts))
    kept = ends > starts
    return Records(starts=starts[kept], ends=ends[kept], lines=lines[kept])


def quotes_enclose_fields(data: bytes, delimiter: str) -> bool:
    """Whether every quote begins or ends a field or stands for one within it: no reader is in doubt."""
    octets = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(octets == QUOTE)
    if len(quotes) % 2 or not _opens_fields(octets, quotes, ord(delimiter)):
        return False
    after = octets[np.minimum(quotes[1::2] + 1, len(octets) - 1)]
    at_end = quotes[1::2] == len(octets) - 1
    return bool(np.all(at_end | np.isin(after, (ord(delimiter), NEWLINE, RETURN, QUOTE))))


def _opens_fields(octets: npt.NDArray[np.uint8], quotes: Offsets, delimiter: int) -> bool:
    # Where every first, third, ... quote begins a field or follows a quote, parity alone tells the inside.
    openers = quotes[::2]
    before = octets[np.maximum(openers - 1, 0)]
    return bool(np.all((openers == 0) | np.isin(before, (delimiter, NEWLINE, QUOTE))))


def _enclosing(octets: npt.NDArray[np.uint8], quotes: Offsets, delimiter: int) -> Offsets:
    # A quote inside an unquoted field is a character like any other; few files have one.
    kept: list[int] = []
    for at in quotes.tolist():
        opened = len(kept) % 2 == 1
        if opened or at == 0 or octets[at - 1] in (delimiter, NEWLINE) or (kept and kept[-1] == at - 1):
            kept.append(at)
    return np.array(kept, np.int64)
