"""Receipts that the topic no longer holds, from the table that does."""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from k2common.iceberg.catalogs.catalog import Catalog
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import UPLOADS

from ingest_gateway.receipts.tracker import Tracker, Upload

COLUMNS = ("upload_id", "receipt")
SETTLING = timedelta(hours=1)
"""A claim that was final for longer has its receipt in the topic, or the topic no longer holds it."""


def is_past(upload: Upload, now: datetime) -> bool:
    """Whether the upload ended, and the topic does not say how."""
    claim = upload.claim
    ended = claim is not None and claim.state == "final" and now - claim.updated_at > SETTLING
    return ended and upload.final is None


class PastReceipts:
    """Fills the tracker with what `ingest.uploads` has."""

    def __init__(
        self, catalog: Catalog, reader: VersionReader, *, tracker: Tracker, blocking: Blocking, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._reader = reader
        self._tracker = tracker
        self._blocking = blocking
        self._clock = clock
        self._sought: set[str] = set()

    async def fill(self) -> None:
        """Give the tracker every receipt that it lacks; each is looked for once.

        Raises TransientError when the warehouse does not answer.
        """
        now = self._clock.now()
        uploads = self._tracker.uploads
        lacking = {upload_id for upload_id in uploads if is_past(uploads[upload_id], now)} - self._sought
        if not lacking:
            return
        for record in await self._blocking.run(self._read, lacking):
            self._tracker.on_final(record)
        self._sought |= lacking

    def _read(self, lacking: Set[str]) -> list[Mapping[str, Any]]:
        version = self._reader.refresh(UPLOADS.table)
        if version is None:
            return []
        rows = read_rows(self._catalog, self._reader.plan(version), COLUMNS)
        if not rows.num_rows:
            return []
        wanted = pa.array(sorted(lacking), pa.string())
        found: list[Mapping[str, Any]] = rows.filter(pc.is_in(rows["upload_id"], wanted)).to_pylist()
        return found
