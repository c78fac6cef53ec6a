"""From text to numbers, dates and times, a column at a time; cells that cannot be read are marked.

A column is cast whole. Only one that fails is halved until the cells at fault stand alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2common.columnar.arrow import DECIMAL, Column
from k2common.layouts.day_formats import parse_days
from k2common.layouts.faults import (
    DATE_INVALID,
    NUMBER_INVALID,
    NUMBER_OUT_OF_RANGE,
    TIMESTAMP_AMBIGUOUS,
    TIMESTAMP_IMPLAUSIBLE,
    TIMESTAMP_INVALID,
    VALUE_MISSING,
    Faults,
    Mask,
)
from k2common.layouts.rules import Moment, Number

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
INTEGER = r"^[+-]?[0-9]+$"
ZONED = r"(?:[Zz]|[+-][0-9]{2}:?(?:[0-9]{2})?)$"
PER_UNIT = {"epoch_ns": 1, "epoch_us": 1_000, "epoch_ms": 1_000_000}
LARGEST = 2**63 - 1
DIGITS = "16 digits before the point and 12 after it"
FIRST_DAY = date(1677, 9, 23)
END_DAY = date(2262, 4, 10)
"""64 bits of nanoseconds end a day and a half beyond; a zone's offset could carry a time over the end."""
NAIVE_NS = pa.timestamp("ns")
SECONDS = pa.decimal128(28, 9)
UTC_NS = pa.timestamp("ns", "UTC")
ZERO = pa.scalar(Decimal(0), DECIMAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """The zone of times that name none, and which of the two a time is that it has twice."""

    name: str
    ambiguous: str


def true_where(condition: Column) -> Mask:
    """A condition as a mask; null is false."""
    return np.asarray(pc.fill_null(condition, fill_value=False).to_numpy(zero_copy_only=False), bool)


def text(cells: Column) -> Column:
    """The cells, null where empty."""
    return pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)


def require(values: Column, column: str, faults: Faults) -> None:
    """Mark the rows that have no value."""
    if values.null_count:
        faults.mark(
            true_where(values.is_null()), code=VALUE_MISSING, column=column, message=f"{column} is empty"
        )


def cast(cells: Column, kind: Any) -> tuple[Column, Mask]:
    """The cells as `kind`, null where empty or at fault, and which are at fault."""
    given = text(pc.utf8_trim_whitespace(cells)) if pa.types.is_string(cells.type) else cells
    values = pa.concat_arrays(_halved(given, kind))
    return values, true_where(pc.and_(given.is_valid(), values.is_null()))


def _halved(cells: Column, kind: Any) -> list[Column]:
    try:
        return [cells.cast(kind)]
    except pa.ArrowInvalid:
        if len(cells) == 1:
            return [pa.nulls(1, kind)]
    half = len(cells) // 2
    return [*_halved(cells[:half], kind), *_halved(cells[half:], kind)]


def without(cells: Column, nulls: Sequence[str]) -> Column:
    """The cells, those of `nulls` empty; typed ones null."""
    if not nulls:
        return cells
    if pa.types.is_dictionary(cells.type):
        values = without(cells.dictionary, nulls)
        return pa.DictionaryArray.from_arrays(cells.indices, values)
    if pa.types.is_string(cells.type):
        return pc.if_else(pc.is_in(cells, value_set=pa.array(nulls, pa.string())), "", cells)
    # A number is compared by its value, whichever way its column was read.
    texts = pa.array(nulls, pa.string())
    known, _ = _whole(texts) if pa.types.is_integer(cells.type) else cast(texts, cells.type)
    known = known.drop_null()
    return pc.if_else(pc.is_in(cells, value_set=known), pa.scalar(None, cells.type), cells)


def plain(cells: Column) -> Column:
    """The cells themselves, where they came by their few values."""
    return cells.cast(cells.type.value_type) if pa.types.is_dictionary(cells.type) else cells


def decimals(cells: Column, rule: Number, faults: Faults, *, required: bool) -> Column:
    """Exact decimals; what needs more digits than there are is refused, never rounded."""
    column = rule.column
    if rule.scale is not None:
        values = _scaled(cells, rule, rule.scale, faults)
    elif pa.types.is_decimal(cells.type):
        values = cells
    else:
        values, bad = cast(cells, DECIMAL)
        _mark_numbers(cells, bad, column, faults, NUMBER, DIGITS)
        values = without(values, rule.nulls)
    if required:
        require(values, column, faults)
    if not rule.negative and true_where(pc.less(values, ZERO)).any():
        below = true_where(pc.less(values, ZERO))
        faults.mark(below, code=NUMBER_OUT_OF_RANGE, column=column, message=f"{column} is below 0")
    if rule.zero_is_null:
        values = pc.if_else(pc.equal(values, ZERO), pa.scalar(None, DECIMAL), values)
    return values


def _scaled(cells: Column, rule: Number, scale: int, faults: Faults) -> Column:
    column = rule.column
    whole = integers(cells, column, faults, nulls=rule.nulls).cast(pa.decimal128(38, 0))
    # The same digits, the point moved: no arithmetic that could round.
    units = pa.Array.from_buffers(
        pa.decimal128(38, scale), len(whole), whole.buffers(), whole.null_count, whole.offset
    )
    values, bad = cast(units, DECIMAL)
    faults.mark(bad, code=NUMBER_OUT_OF_RANGE, column=column, message=f"{column} does not fit in {DIGITS}")
    return values


def integers(cells: Column, column: str, faults: Faults, *, nulls: Sequence[str] = ()) -> Column:
    """64-bit integers; those of `nulls` are null."""
    if pa.types.is_integer(cells.type):
        return cells
    values, bad = _whole(cells)
    _mark_numbers(cells, bad, column, faults, INTEGER, "64 bits")
    return without(values, nulls)


def _whole(cells: Column) -> tuple[Column, Mask]:
    """Decimal digits with or without a sign; Arrow would read 0x10 as 16, and refuse +5."""
    given = text(pc.utf8_trim_whitespace(cells))
    digits = pc.replace_substring_regex(given, r"^\+", "")
    whole = pc.match_substring_regex(given, INTEGER)
    values, _ = cast(pc.if_else(whole, digits, pa.scalar(None, pa.string())), pa.int64())
    return values, true_where(pc.and_(given.is_valid(), values.is_null()))


def _mark_numbers(cells: Column, bad: Mask, column: str, faults: Faults, form: str, size: str) -> None:
    if not bad.any():
        return
    number = true_where(pc.match_substring_regex(pc.utf8_trim_whitespace(cells), form))
    message = f"{column} does not fit in {size}"
    faults.mark(bad & number, code=NUMBER_OUT_OF_RANGE, column=column, message=message)
    faults.mark(bad, code=NUMBER_INVALID, column=column, message=f"{column} is not a number")


def dates(cells: Column, column: str, form: str, faults: Faults) -> Column:
    """Dates by a strptime format; few distinct ones are expected."""
    coded = pc.dictionary_encode(text(pc.utf8_trim_whitespace(cells)))
    days = pa.array(parse_days(coded.dictionary.to_pylist(), form), pa.date32())
    values = days.take(coded.indices)
    bad = true_where(pc.and_(coded.is_valid(), values.is_null()))
    faults.mark(bad, code=DATE_INVALID, column=column, message=f"{column} is no date of the form {form}")
    return values


def times(
    columns: list[Column], way: Moment, zone: Zone, faults: Faults, *, nulls: Sequence[str] = ()
) -> Column:
    """Nanoseconds since 1970 in UTC; null where the cell is empty, one of `nulls` or at fault."""
    column = way.columns[-1]
    if way.format == "epoch_s":
        return _seconds(columns[0], column, faults, nulls)
    if way.format in PER_UNIT:
        values = integers(columns[0], column, faults, nulls=nulls)
        return _epochs(values, column, PER_UNIT[way.format], faults)
    if way.format == "date_time":
        days = dates(columns[0], way.columns[0], way.date_format, faults)
        iso = pc.binary_join_element_wise(pc.cast(days, pa.string()), columns[1], "T")
        return _local(iso, column, zone, faults)
    cells = pc.utf8_trim_whitespace(columns[0])
    zoned = pc.match_substring_regex(cells, ZONED)
    nothing = pa.scalar(None, pa.string())
    aware, bad = cast(pc.if_else(zoned, cells, nothing), UTC_NS)
    _mark_times(bad, column, faults)
    if pc.all(zoned).as_py():
        return aware.cast(pa.int64())
    naive = _local(pc.if_else(zoned, nothing, cells), column, zone, faults)
    return pc.coalesce(aware.cast(pa.int64()), naive)


def plausible(values: Column, column: str, faults: Faults, *, first: date, end: date) -> None:
    """Mark times outside [first, end), and those near the ends of what 64 bits of nanoseconds hold."""
    first, end = max(first, FIRST_DAY), min(end, END_DAY)
    low, high = (int(np.datetime64(day, "ns").astype(np.int64)) for day in (first, end))
    bounds = pc.min_max(values)
    if not bounds["min"].is_valid or (bounds["min"].as_py() >= low and bounds["max"].as_py() < high):
        return
    outside = true_where(pc.or_(pc.less(values, low), pc.greater_equal(values, high)))
    message = f"{column} is not between {first} and {end}"
    faults.mark(outside, code=TIMESTAMP_IMPLAUSIBLE, column=column, message=message)


def _epochs(values: Column, column: str, unit: int, faults: Faults) -> Column:
    if unit == 1:
        return values
    limit = LARGEST // unit
    far = true_where(pc.or_(pc.greater(values, limit), pc.less(values, -limit)))
    message = f"{column} is beyond what nanoseconds can hold"
    faults.mark(far, code=TIMESTAMP_IMPLAUSIBLE, column=column, message=message)
    if far.any():
        values = pc.if_else(pa.array(far), pa.scalar(None, pa.int64()), values)
    return pc.multiply(values, unit)


def _seconds(cells: Column, column: str, faults: Faults, nulls: Sequence[str]) -> Column:
    values, bad = cast(cells, SECONDS)
    _mark_numbers(cells, bad, column, faults, NUMBER, "nine digits of a second")
    values = without(values, nulls)
    # Nine digits after the point are nanoseconds once the point is gone.
    nanoseconds = pa.Array.from_buffers(
        pa.decimal128(SECONDS.precision, 0), len(values), values.buffers(), values.null_count, values.offset
    )
    found, far = cast(nanoseconds, pa.int64())
    message = f"{column} is beyond what nanoseconds can hold"
    faults.mark(far, code=TIMESTAMP_IMPLAUSIBLE, column=column, message=message)
    return found


def _local(iso: Column, column: str, zone: Zone, faults: Faults) -> Column:
    naive, bad = cast(iso, NAIVE_NS)
    _mark_times(bad, column, faults)
    if zone.name == "UTC":
        return naive.cast(pa.int64())
    # At the end of summer time an hour comes twice, at its begin one never comes: then these differ.
    early, late = (_in_zone(naive, zone.name, ambiguous=s, nonexistent=s) for s in ("earliest", "latest"))
    doubtful = true_where(pc.not_equal(early, late))
    if not doubtful.any():
        return early
    twice = _in_zone(naive, zone.name, ambiguous="latest", nonexistent="earliest")
    if zone.ambiguous != "refuse":
        doubtful &= ~true_where(pc.not_equal(early, twice))
    message = f"{column} is a time that {zone.name} has twice or never"
    faults.mark(doubtful, code=TIMESTAMP_AMBIGUOUS, column=column, message=message)
    return twice if zone.ambiguous == "later" else early


def _in_zone(naive: Column, zone: str, *, ambiguous: Any, nonexistent: Any) -> Column:
    return pc.assume_timezone(naive, zone, ambiguous=ambiguous, nonexistent=nonexistent).cast(pa.int64())


def _mark_times(bad: Mask, column: str, faults: Faults) -> None:
    faults.mark(bad, code=TIMESTAMP_INVALID, column=column, message=f"{column} is no time")
