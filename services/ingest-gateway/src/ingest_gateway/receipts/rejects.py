"""Refused rows, from the table that holds them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from k2common.columnar.arrow import arrow_schema_of
from k2common.iceberg.catalogs.catalog import Catalog
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import REJECTS
from k2common.versions.version import format_token

COLUMNS = ("line", "byte_offset", "column", "code", "message", "raw")


class Rejects:
    """Reads the newest version of ingest.rejects."""

    def __init__(self, catalog: Catalog, reader: VersionReader, *, blocking: Blocking) -> None:
        self._catalog = catalog
        self._reader = reader
        self._blocking = blocking

    async def of(
        self, upload_id: str, *, after_line: int, limit: int
    ) -> tuple[str | None, Sequence[Mapping[str, Any]]]:
        """The version's token, and up to `limit` rejects of the upload after a line, by line.

        Raises TransientError when the warehouse does not answer.
        """
        return await self._blocking.run(self._read, upload_id, after_line, limit)

    async def export(
        self, upload_id: str, form: str, *, after_line: int, limit: int | None
    ) -> tuple[str | None, bytes]:
        """The same as ndjson or csv; all of them without a limit.

        Raises TransientError when the warehouse does not answer.
        """
        return await self._blocking.run(self._export, upload_id, form, after_line, limit)

    def _read(
        self, upload_id: str, after_line: int, limit: int
    ) -> tuple[str | None, Sequence[Mapping[str, Any]]]:
        token, rows = self._rows(upload_id, after_line, limit)
        return token, rows.to_pylist()

    def _export(
        self, upload_id: str, form: str, after_line: int, limit: int | None
    ) -> tuple[str | None, bytes]:
        token, rows = self._rows(upload_id, after_line, limit)
        out = io.StringIO()
        if form == "ndjson":
            out.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows.to_pylist())
        else:
            writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows.to_pylist())
        return token, out.getvalue().encode()

    def _rows(self, upload_id: str, after_line: int, limit: int | None) -> tuple[str | None, pa.Table]:
        version = self._reader.refresh(REJECTS.table)
        schema = arrow_schema_of(REJECTS.topic.schema)
        nothing = pa.schema([schema.field(name) for name in COLUMNS]).empty_table()
        if version is None:
            return None, nothing
        token = format_token({REJECTS.table: version.number})
        plan = self._reader.plan(version, upload_id=upload_id)
        rows = read_rows(self._catalog, plan, ("upload_id", *COLUMNS))
        if not rows.num_rows:
            return token, nothing
        wanted = pc.and_(pc.equal(rows["upload_id"], upload_id), pc.greater(rows["line"], after_line))
        found = rows.filter(wanted).sort_by("line").select(list(COLUMNS))
        return token, found.slice(0, limit)
