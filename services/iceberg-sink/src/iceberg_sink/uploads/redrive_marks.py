"""The offsets that redrives name, from ingest.redrives alone."""

from __future__ import annotations

from typing import Any

from k2common.kafka.boundary import UndecodableMessages
from k2common.kafka.follower import Follower
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import REDRIVES
from k2common.settings.kafka import KafkaSettings

from iceberg_sink.uploads.named_offsets import NamedOffsets


class RedriveMarks:
    """Feeds `named` with every mark; the topic is kept for ever and read from its beginning."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        codec: MessageCodec,
        named: NamedOffsets,
        undecodable: UndecodableMessages | None = None,
    ) -> None:
        self._codec = codec
        self._named = named
        self.follower = Follower(settings, REDRIVES, on_record=self._take, undecodable=undecodable)

    async def _take(self, record: Any) -> None:
        self._named.add_redrive(await self._codec.decode(record.value))
