"""The files of a version with the wanted rows, looked up beside the event loop."""

from __future__ import annotations

from k2common.engine.scan import Filter
from k2common.iceberg.reading.as_of import AsOf
from k2common.iceberg.reading.plan import Plan
from k2common.iceberg.reading.reader import VersionReader
from k2common.query.timings import step
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import Dataset, OwnTable


class Planner:
    """Plans of versions; raises as `AsOf.plan`."""

    def __init__(self, *, reader: VersionReader, blocking: Blocking) -> None:
        self._reader = reader
        self._blocking = blocking

    async def plan(self, as_of: AsOf, dataset: Dataset | OwnTable, wanted: Filter) -> Plan | None:
        """The files of the dataset with the wanted rows; None when the table had no version yet."""
        with step("plan"):
            return await self._blocking.run(
                as_of.plan,
                self._reader,
                dataset.table,
                start_ns=wanted.start_ns,
                end_ns=wanted.end_ns,
                symbols=wanted.symbols,
                trading_day=wanted.trading_day,
                clock=wanted.clock,
            )
