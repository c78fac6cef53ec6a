"""Refused rows, from the table that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc
from k2common.iceberg.catalog import Catalog
from k2common.iceberg.reader import VersionReader
from k2common.iceberg.rows import read_rows
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import REJECTS
from k2common.versions import format_token

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

    def _read(
        self, upload_id: str, after_line: int, limit: int
    ) -> tuple[str | None, Sequence[Mapping[str, Any]]]:
        version = self._reader.refresh(REJECTS.table)
        if version is None:
            return None, []
        token = format_token({REJECTS.table: version.number})
        plan = self._reader.plan(version, upload_id=upload_id)
        rows = read_rows(self._catalog, plan, ("upload_id", *COLUMNS))
        if not rows.num_rows:
            return token, []
        wanted = pc.and_(pc.equal(rows["upload_id"], upload_id), pc.greater(rows["line"], after_line))
        found = rows.filter(wanted).sort_by("line").slice(0, limit)
        return token, found.select(list(COLUMNS)).to_pylist()
