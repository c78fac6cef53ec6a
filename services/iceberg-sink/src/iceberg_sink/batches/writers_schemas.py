"""Writers' schemas and the table: what is read as it is, what needs a new column first, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from k2common.columnar.arrow import arrow_schema
from k2common.columnar.decode import RecordDecoder, Schemas
from k2common.columnar.evolution import Field, Unreadable, added
from k2common.errors import K2Error, RecordError
from k2common.iceberg.catalogs.catalog import Catalog, Table
from k2common.iceberg.catalogs.schema_evolution import add_columns, lacking, more_columns
from k2common.observability.logging import get_logger
from k2common.registry.client import SchemaRegistry
from k2common.schemas.datasets import Dataset, avro_schema

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readable:
    """A table, and how its rows are read from what was written; `refused` says why a schema is None."""

    table: Table
    decoder: RecordDecoder
    schemas: Schemas
    refused: Mapping[int, str]


class WritersSchemas:
    """The schemas that were met in one dataset's topic."""

    def __init__(self, dataset: Dataset, *, catalog: Catalog, registry: SchemaRegistry) -> None:
        self._dataset = dataset
        self._catalog = catalog
        self._registry = registry
        self._avro = avro_schema(dataset.topic.schema)
        self._fields = {entry["name"]: entry for entry in self._avro["fields"]}
        self._base = arrow_schema(self._avro)
        self._decoder = RecordDecoder(self._base)
        self._more = pa.schema([])
        self._schemas: dict[int, Mapping[str, Any] | None] = {}
        self._refused: dict[int, str] = {}
        self._added: dict[int, list[Field]] = {}

    def forget_unreadable(self) -> None:
        """Ask the registry again for what could not be read: it may be registered since."""
        self._refused.clear()
        for schema_id in [known for known, schema in self._schemas.items() if schema is None]:
            del self._schemas[schema_id]

    async def learn(self, schema_id: int) -> None:
        """Get a schema from the registry, and judge it by the dataset's own.

        Raises TransientError when the registry is unavailable.
        """
        try:
            schema = await self._registry.schema(schema_id)
        except RecordError:
            self._schemas[schema_id] = None
            return
        try:
            new = added(schema, self._fields)
            subject = self._dataset.topic.subject
            if new and subject not in await self._registry.subjects(schema_id):
                raise Unreadable(f"schema {schema_id} has other fields and is not one of {subject}")
        except K2Error:
            raise
        # A foreign schema may have any form; its messages become dead letters.
        except Exception as error:  # noqa: BLE001
            self._refuse(schema_id, error)
            return
        self._schemas[schema_id], self._added[schema_id] = schema, new

    def readable(self, table: Table) -> Readable:
        """How to read what is known by now; columns that a schema brings are added to the table first.

        Raises TransientError when the catalogue does not answer.
        """
        for schema_id, fields in list(self._added.items()):
            try:
                if new := lacking(table, fields):
                    table = add_columns(self._catalog, self._dataset.table, new)
                    log.info("columns added", table=self._dataset.table, columns=[f["name"] for f in new])
            except Unreadable as error:
                self._refuse(schema_id, error)
        more = more_columns(table, self._avro)
        if more != self._more:
            self._more, self._decoder = more, RecordDecoder(pa.schema([*self._base, *more]))
        return Readable(table=table, decoder=self._decoder, schemas=self._schemas, refused=self._refused)

    def _refuse(self, schema_id: int, error: Exception) -> None:
        self._schemas[schema_id] = None
        self._refused[schema_id] = f"schema {schema_id}: {error}"
        self._added.pop(schema_id, None)
