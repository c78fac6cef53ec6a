"""Which versions of a table are in ingest.versions, so that their snapshots may expire."""

from __future__ import annotations

from k2common.iceberg.reading.reader import VersionReader
from k2common.schemas.datasets import Dataset, OwnTable


class Recorded:
    """Asks the table about a number that it does not know, and remembers what else the answer held."""

    def __init__(self, reader: VersionReader, dataset: Dataset | OwnTable) -> None:
        self._reader = reader
        self._dataset = dataset
        self._known: frozenset[int] = frozenset()

    def __call__(self, number: int) -> bool:
        """Whether version `number` is recorded; a table without versions needs no record.

        Raises TransientError when the catalogue does not answer.
        """
        if not self._dataset.versioned:
            return True
        if number not in self._known:
            self._known = self._reader.recorded(self._dataset.table, since=number)
        return number in self._known
