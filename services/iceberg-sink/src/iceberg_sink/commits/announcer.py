"""Announces versions on iceberg.commits, and writes dead letters before the commit that passes them.

What is written twice, since its writer was killed in between, is one to every reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from k2common.domain.dead_letters import DeadLetter
from k2common.errors import SetupError
from k2common.iceberg.catalogs.catalog import Catalog, load_table
from k2common.iceberg.commits.commit import CommitResult
from k2common.iceberg.commits.table_totals import Totals, totals_of
from k2common.iceberg.versions.documents import live_versions
from k2common.iceberg.versions.hidden_files import hidden_files
from k2common.kafka.producer import TransactionalProducer
from k2common.observability.tracing import Carried
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import COMMITS, Topic, dead_letter_topic
from k2common.settings.kafka import KafkaSettings
from k2common.versions.version import Version

FRAMING_BYTES = 16 * 1024
"""Room for headers and the batch around a letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A version, the snapshot that carries it with what the table held then, and the traces of its commit."""

    version: Version
    snapshot_id: int
    metadata_location: str
    totals: Totals | None = None
    trace: Carried = ()

    @classmethod
    def of(cls, result: CommitResult, *, trace: Carried = ()) -> Self:
        """What is to be said of a commit."""
        return cls(
            version=result.version,
            snapshot_id=result.snapshot_id,
            metadata_location=result.metadata_location,
            totals=result.totals,
            trace=trace,
        )


class Announcer:
    """Announces for one owner of a table's partitions; entered together with its work."""

    def __init__(self, settings: KafkaSettings, *, codec: MessageCodec, owner: str) -> None:
        self.producer = TransactionalProducer(settings, f"iceberg-sink-{owner}")
        self._codec = codec
        self._read_back_seconds = settings.request_timeout_seconds
        self._largest = settings.max_request_bytes - FRAMING_BYTES

    async def keep(self, letters: Sequence[DeadLetter], *, topic: Topic) -> int:
        """Write the dead letters of `topic`, all or none; the offset after the last of them.

        A committed read has shown them on return: their messages are passed for good after that.

        Raises TransientError as `announce`, SetupError for one that is too large to be written.
        """
        target = dead_letter_topic(topic).name
        for letter in letters:
            if len(letter.key or b"") + len(letter.value or b"") > self._largest:
                raise SetupError(
                    f"{letter.topic} {letter.partition}: the message at offset {letter.offset} is no record "
                    "and too large to be kept; raise K2_KAFKA__MAX_REQUEST_BYTES"
                )
        async with self.producer.transaction(read_back_seconds=self._read_back_seconds) as work:
            sent = [
                await work.send(
                    target, key=letter.key, value=letter.value, partition=0, headers=letter.headers()
                )
                for letter in letters
            ]
            await work.flush()
            return max([int((await one).offset) for one in sent]) + 1

    async def announce(self, announcements: Sequence[Announcement]) -> None:
        """Announce all of them or none.

        Raises TransientError when Kafka is unavailable; the announcer is of no more use then.
        """
        if not announcements:
            return
        async with self.producer.transaction() as work:
            for announcement in announcements:
                version, totals = announcement.version, announcement.totals
                message = {
                    "table": version.table,
                    "number": version.number,
                    "committed_at": version.committed_at,
                    "snapshot_id": announcement.snapshot_id,
                    "metadata_location": announcement.metadata_location,
                    "document": version.to_json(),
                    "rows": None if totals is None else totals.rows,
                    "rows_removed": None if totals is None else totals.removed,
                }
                await work.send(
                    COMMITS.name,
                    key=version.table.encode(),
                    value=self._codec.encode(message),
                    headers=announcement.trace,
                )


def unrecorded(catalog: Catalog, table: str, recorded: Callable[[int], bool]) -> Sequence[Announcement]:
    """The live versions that are not in ingest.versions, oldest first. Raises TransientError."""
    loaded = load_table(catalog, table)
    return [
        Announcement(
            version=live.version,
            snapshot_id=live.snapshot_id,
            metadata_location=loaded.metadata_location,
            totals=totals_of(loaded.metadata, live.snapshot_id),
        )
        for live in reversed(live_versions(loaded.metadata, hidden_files(catalog)))
        if not recorded(live.version.number)
    ]
