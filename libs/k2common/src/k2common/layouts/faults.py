"""The first fault of each row, in columns: a row has one reason, however much is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Mask: TypeAlias = "npt.NDArray[np.bool_]"

COLUMN_COUNT = "COLUMN_COUNT"
ENCODING_INVALID = "ENCODING_INVALID"
QUOTING_INVALID = "QUOTING_INVALID"
VALUE_MISSING = "VALUE_MISSING"
VALUE_UNKNOWN = "VALUE_UNKNOWN"
NUMBER_INVALID = "NUMBER_INVALID"
NUMBER_OUT_OF_RANGE = "NUMBER_OUT_OF_RANGE"
DATE_INVALID = "DATE_INVALID"
TIMESTAMP_INVALID = "TIMESTAMP_INVALID"
TIMESTAMP_AMBIGUOUS = "TIMESTAMP_AMBIGUOUS"
TIMESTAMP_IMPLAUSIBLE = "TIMESTAMP_IMPLAUSIBLE"
INSTRUMENT_UNKNOWN = "INSTRUMENT_UNKNOWN"
QUOTE_EMPTY = "QUOTE_EMPTY"
CODES = (
    COLUMN_COUNT,
    ENCODING_INVALID,
    QUOTING_INVALID,
    VALUE_MISSING,
    VALUE_UNKNOWN,
    NUMBER_INVALID,
    NUMBER_OUT_OF_RANGE,
    DATE_INVALID,
    TIMESTAMP_INVALID,
    TIMESTAMP_AMBIGUOUS,
    TIMESTAMP_IMPLAUSIBLE,
    INSTRUMENT_UNKNOWN,
    QUOTE_EMPTY,
)
"""Every one of them."""


class Faults:
    """Marks rows at fault; the first mark of a row stays."""

    def __init__(self, rows: int) -> None:
        self._marks = np.zeros(rows, np.int32)
        self._kinds: list[tuple[str, str | None, str]] = []

    def mark(self, rows: Mask, *, code: str, column: str | None, message: str) -> None:
        """Give the marked rows this fault unless they have one."""
        if not rows.any():
            return
        self._kinds.append((code, column, message))
        self._marks[rows & (self._marks == 0)] = len(self._kinds)

    def of(self, kept: Mask) -> Faults:
        """The same marks for the kept rows alone."""
        faults = Faults(0)
        faults._marks, faults._kinds = self._marks[kept], list(self._kinds)
        return faults

    @property
    def rows(self) -> Mask:
        """The rows at fault."""
        return self._marks > 0

    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._kinds)

    def columns(self) -> Mapping[str, Any]:
        """`code`, `column` and `message` of the rows at fault, in order, as dictionary arrays."""
        marks = pa.array(self._marks[self.rows] - 1)
        return {
            name: pa.DictionaryArray.from_arrays(
                marks, pa.array([kind[n] for kind in self._kinds], pa.string())
            )
            for n, name in enumerate(("code", "column", "message"))
        }

    def counts(self) -> Mapping[tuple[str | None, str], int]:
        """Rows at fault by column and code."""
        found: Counter[tuple[str | None, str]] = Counter()
        for n, count in enumerate(np.bincount(self._marks, minlength=len(self._kinds) + 1)[1:]):
            code, column, _ = self._kinds[n]
            if count:
                found[(column, code)] += int(count)
        return dict(found)
