"""A replica forgets the uploads and commands whose fate a table tells, also of tables it owns nothing of."""

from __future__ import annotations

import asyncio

from k2common.iceberg.catalogs.catalog import Catalog, load_table
from k2common.iceberg.versions.documents import head_version
from k2common.runtime.blocking import Blocking
from k2common.runtime.retry import wait_or_stop
from k2common.schemas.datasets import MARKET_DATASETS, Dataset
from k2common.versions.version import Version

from iceberg_sink.uploads.commands import Commands
from iceberg_sink.uploads.statuses import Statuses

SETTLE_SECONDS = 60.0
"""An owner's commits settle at once; this bounds what all others remember."""


class Settling:
    """Every replica reads all statuses and commands, so every one has to forget what is settled."""

    def __init__(
        self, *, catalog: Catalog, statuses: Statuses, commands: Commands, blocking: Blocking
    ) -> None:
        self._catalog = catalog
        self._statuses = statuses
        self._commands = commands
        self._blocking = blocking

    async def run(self, stop: asyncio.Event) -> None:
        """Look at the tables now and then until `stop`.

        Raises TransientError when the catalogue is unavailable.
        """
        while not await wait_or_stop(stop, SETTLE_SECONDS):
            await self.look()

    async def look(self) -> None:
        """Forget what the heads settle; tables without anything open are not looked at."""
        for dataset in MARKET_DATASETS.values():
            if self._statuses.open(dataset.name) or self._commands.pending(dataset.name):
                head = await self._blocking.run(self._head, dataset)
                if head is not None:
                    self.by(dataset, head)

    def by(self, dataset: Dataset, version: Version) -> None:
        """Forget what this version of the dataset's table settles."""
        settled = self._statuses.settle(dataset.name, version, topic=dataset.topic.name)
        self._commands.settle(dataset.name, version, settled=settled)

    def _head(self, dataset: Dataset) -> Version | None:
        return head_version(load_table(self._catalog, dataset.table))
