"""A SQL catalogue that parses each metadata file once: such a file is never written again."""

from __future__ import annotations

import weakref

from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate

from k2common.iceberg.files.lru import Recent

KEPT = 64


class KeepingSqlCatalog(SqlCatalog):
    """pyiceberg's SQL catalogue; its own parses the file with each look, three times for a commit.

    The metadata of one file is one object to all who load the table, in every thread: nobody may change it.
    A catalogue that nobody holds any more closes its connections.
    """

    def __init__(self, name: str, **properties: str) -> None:
        self._kept = Recent[str, TableMetadata](limit=KEPT)
        super().__init__(name, **properties)
        # Python 3.13 warns of each connection that is collected open, wherever that happens to be.
        weakref.finalize(self, self.engine.dispose)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        response = super().commit_table(table, requirements, updates)
        self._kept.put(response.metadata_location, response.metadata)
        return response

    def _convert_orm_to_iceberg(self, orm_table: IcebergTables) -> Table:
        location = orm_table.metadata_location
        known = None if location is None else self._kept.get(location)
        if location is None or known is None:
            loaded = super()._convert_orm_to_iceberg(orm_table)
            self._kept.put(loaded.metadata_location, loaded.metadata)
            return loaded
        return Table(
            identifier=(*self.identifier_to_tuple(orm_table.table_namespace), orm_table.table_name),
            metadata=known,
            metadata_location=location,
            io=self._load_file_io(known.properties, location),
            catalog=self,
        )
