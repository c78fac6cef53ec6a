"""Reference data as the claim names it: the same answer on every try and for the whole file."""

from __future__ import annotations

from collections import OrderedDict

from k2common.iceberg.catalogs.catalog import Catalog
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.layouts.instruments import COLUMNS, InstrumentIndex
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import INSTRUMENTS

KEPT = 4


class Instruments:
    """Indexes by version of market.instruments; a version never changes, so the newest few are kept."""

    def __init__(self, catalog: Catalog, *, blocking: Blocking) -> None:
        self._catalog = catalog
        self._reader = VersionReader(catalog)
        self._blocking = blocking
        self._kept: OrderedDict[int, InstrumentIndex] = OrderedDict()

    async def at(self, number: int | None) -> InstrumentIndex | None:
        """The index at version `number`; None where the upload names none.

        Raises TransientError when the warehouse does not answer.
        """
        if number is None:
            return None
        if number not in self._kept:
            self._kept[number] = await self._blocking.run(self._load, number)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]

    def _load(self, number: int) -> InstrumentIndex:
        plan = self._reader.plan(self._reader.at(INSTRUMENTS.table, number))
        return InstrumentIndex(read_rows(self._catalog, plan, COLUMNS))
