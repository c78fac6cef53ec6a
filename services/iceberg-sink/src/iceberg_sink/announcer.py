"""Announces versions on iceberg.commits; one that is announced twice is one to every reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from k2common.iceberg.catalog import Catalog, load_table
from k2common.iceberg.documents import live_versions
from k2common.kafka.producer import TransactionalProducer
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import COMMITS
from k2common.settings.kafka import KafkaSettings
from k2common.versions import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A version, and the snapshot that carries it."""

    version: Version
    snapshot_id: int
    metadata_location: str


class Announcer:
    """Announces for one owner of a table's partitions; entered together with its work."""

    def __init__(self, settings: KafkaSettings, *, codec: MessageCodec, owner: str) -> None:
        self.producer = TransactionalProducer(settings, f"iceberg-sink-{owner}")
        self._codec = codec

    async def announce(self, announcements: Sequence[Announcement]) -> None:
        """Announce all of them or none.

        Raises TransientError when Kafka is away; the announcer is of no more use then.
        """
        if not announcements:
            return
        async with self.producer.transaction() as work:
            for announcement in announcements:
                version = announcement.version
                message = {
                    "table": version.table,
                    "number": version.number,
                    "committed_at": version.committed_at,
                    "snapshot_id": announcement.snapshot_id,
                    "metadata_location": announcement.metadata_location,
                    "document": version.to_json(),
                }
                await work.send(COMMITS.name, key=version.table.encode(), value=self._codec.encode(message))


def unrecorded(catalog: Catalog, table: str, recorded: Callable[[int], bool]) -> Sequence[Announcement]:
    """The live versions that are not in ingest.versions, oldest first. Raises TransientError."""
    loaded = load_table(catalog, table)
    return [
        Announcement(
            version=live.version, snapshot_id=live.snapshot_id, metadata_location=loaded.metadata_location
        )
        for live in reversed(live_versions(loaded.metadata))
        if not recorded(live.version.number)
    ]
