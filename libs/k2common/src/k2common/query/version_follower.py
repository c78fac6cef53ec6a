"""Keeps a reader of versions up to date: announcements as they come, the catalogue every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from k2common.iceberg.reading.reader import VersionReader
from k2common.kafka.boundary import UndecodableMessages
from k2common.kafka.follower import Follower
from k2common.query.first_reads import FirstReads
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.readiness import Readiness
from k2common.runtime.retry import wait_or_stop
from k2common.schemas.datasets import COMMITS
from k2common.settings.kafka import KafkaSettings
from k2common.versions.hidden import AmendedHiddenUploads
from k2common.versions.version import Version

REFRESH_SECONDS = 5.0
PART = "versions"


class VersionFollower:
    """Feeds `reader`; ready once it has read the topic to its end and the catalogue once."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        reader: VersionReader,
        codec: MessageCodec,
        tables: Sequence[str],
        blocking: Blocking,
        readiness: Readiness,
        first_reads: FirstReads | None = None,
        undecodable: UndecodableMessages | None = None,
    ) -> None:
        """`first_reads` are told of what is announced from the start on."""
        self._reader = reader
        self._codec = codec
        self._tables = tables
        self._blocking = blocking
        self._readiness = readiness
        self._first_reads = first_reads
        self.follower = Follower(settings, COMMITS, on_record=self._take, undecodable=undecodable)
        readiness.waiting(PART, "the catalogue has not answered yet")

    async def refresh(self, stop: asyncio.Event) -> None:
        """Look at the catalogue until `stop`.

        Raises TransientError when it does not answer.
        """
        while not stop.is_set():
            for table in self._tables:
                await self._blocking.run(self._reader.refresh, table)
            self._readiness.ready(PART)
            await wait_or_stop(stop, REFRESH_SECONDS)

    async def _take(self, record: Any) -> None:
        message = await self._codec.decode(record.value)
        version = self._reader.note(message["document"])
        await load_hidden(version, blocking=self._blocking)
        # What was announced before this replica was there has been read by others, or by it.
        if self._first_reads is not None and self.follower.caught_up.is_set():
            self._first_reads.note(message["table"], message["number"], record.headers)


async def load_hidden(version: Version, *, blocking: Blocking) -> None:
    """Read the file of the version's hidden uploads in a worker thread; who asks later waits for none.

    Raises TransientError when the store does not answer.
    """
    if isinstance(version.hidden, AmendedHiddenUploads):
        await blocking.run(version.hidden.load)
