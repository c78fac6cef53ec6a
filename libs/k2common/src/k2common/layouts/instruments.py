"""Symbols by the vendor's instrument id and a date, from one version of market.instruments."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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

    def symbols(self, venue: str, instrument_id: str, dates: Any) -> Any:
        """The symbol on each date as a dictionary array; null where the instrument was not listed."""
        coded = pc.dictionary_encode(dates)
        names = [self._symbol(venue, instrument_id, day) for day in coded.dictionary.to_pylist()]
        return pa.DictionaryArray.from_arrays(coded.indices, pa.array(names, pa.string()))

    def _symbol(self, venue: str, instrument_id: str, day: date) -> str | None:
        spans = self._spans.get((venue, instrument_id), ())
        return next((symbol for first, last, symbol in spans if first <= day <= last), None)
