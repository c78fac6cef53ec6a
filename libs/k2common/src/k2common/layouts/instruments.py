"""Symbols by the vendor's instrument id and a date, from one version of market.instruments."""

from __future__ import annotations

from collections import defaultdict
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2common.columnar.arrow import Column

COLUMNS = ("venue", "instrument_id", "symbol", "valid_from", "valid_to")


class InstrumentIndex:
    """Answers from a table with COLUMNS; `valid_to` is the last day, null for an instrument still listed."""

    def __init__(self, table: pa.Table) -> None:
        self._spans: dict[tuple[str, str], list[tuple[date, date, str]]] = defaultdict(list)
        for row in table.select(list(COLUMNS)).to_pylist():
            span = (row["valid_from"], row["valid_to"] or date.max, row["symbol"])
            self._spans[(row["venue"], row["instrument_id"])].append(span)
        for spans in self._spans.values():
            # Of several that hold the one that began last wins, then the first by name: never chance.
            spans.sort(key=lambda span: (-span[0].toordinal(), span[2]))

    def symbols(self, venue: str, instrument_ids: Column, dates: Column) -> Column:
        """The symbol of each id on its date as a dictionary array; null where it was not listed."""
        ids, days = _coded(instrument_ids), _coded(dates)
        names, ordinals = ids.dictionary.to_pylist(), days.dictionary.to_pylist()
        width = len(ordinals) + 1
        pairs = _codes(ids, len(names)) * width + _codes(days, len(ordinals))
        # A file has few pairs of an instrument and a day.
        distinct, codes = np.unique(pairs, return_inverse=True)
        found = [
            self._symbol(venue, [*names, None][pair // width], [*ordinals, None][pair % width])
            for pair in distinct.tolist()
        ]
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(found, pa.string()))

    def _symbol(self, venue: str, instrument_id: str | None, day: date | None) -> str | None:
        if instrument_id is None or day is None:
            return None
        spans = self._spans.get((venue, instrument_id), ())
        return next((symbol for first, last, symbol in spans if first <= day <= last), None)


def _coded(values: Column) -> Column:
    return values if pa.types.is_dictionary(values.type) else pc.dictionary_encode(values)


def _codes(coded: Column, null: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    filled = pc.fill_null(coded.indices, null).to_numpy(zero_copy_only=False)
    return np.asarray(filled, np.int64)
