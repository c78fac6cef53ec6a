"""Uploads of which Kafka deleted chunks before they were parsed: each fails, and can be loaded again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from typing import Any

from k2common.errors import RecordError
from k2common.kafka.boundary import decode_boundary
from k2common.kafka.positions import all_records
from k2common.layouts.upload import UploadSpec
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import CHUNKS, CLAIMS, STATUS, Topic
from k2common.settings.kafka import KafkaSettings

from csv_loader.processing import Chunk

Indexes = Mapping[str, Set[int]]


def incomplete(claims: Iterable[Mapping[str, Any]], *, parsed: Indexes, held: Indexes) -> list[Chunk]:
    """The end of each upload of the claims that has a chunk which is neither parsed nor held by the log."""
    ends = []
    for claim in claims:
        upload_id, count = claim["upload"]["upload_id"], claim["next_chunk"]
        published = set(range(count)) | ({count} if claim["state"] == "published" else set())
        if published - parsed.get(upload_id, set()) - held.get(upload_id, set()):
            message = {"index": count, "terminal": True, "cancelled": False, "length": 0}
            ends.append(Chunk(message=message, upload=UploadSpec.from_avro(claim["upload"])))
    return ends


async def expired(
    settings: KafkaSettings,
    partition: int,
    *,
    claims: MessageCodec,
    statuses: MessageCodec,
    chunks: MessageCodec,
) -> list[Chunk]:
    """The ends of the uploads that `partition` of ingest.chunks has lost.

    Reads all claims and statuses and the partition. Raises TransientError when Kafka is unavailable.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for number in range(CLAIMS.partitions):
        for record in await all_records(settings, CLAIMS.name, number):
            # What cannot be decoded is counted and kept by who follows the topic.
            with suppress(RecordError), decode_boundary(record):
                claim = await claims.decode(record.value)
                found[claim["upload"]["upload_id"]] = claim
    wanted = [
        claim
        for claim in found.values()
        if claim["chunk_partition"] == partition and claim["state"] != "final"
    ]
    parsed: dict[str, set[int]] = defaultdict(set)
    for number in range(STATUS.partitions):
        for message in await _messages(settings, STATUS, number, statuses):
            parsed[message["upload_id"]].add(message["index"])
    held: dict[str, set[int]] = defaultdict(set)
    for message in await _messages(settings, CHUNKS, partition, chunks):
        held[message["upload"]["upload_id"]].add(message["index"])
    return incomplete(wanted, parsed=parsed, held=held)


async def _messages(
    settings: KafkaSettings, topic: Topic, partition: int, codec: MessageCodec
) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for record in await all_records(settings, topic.name, partition):
        with suppress(RecordError), decode_boundary(record):
            message = dict(await codec.decode(record.value))
            # Of a chunk its place in the upload is enough.
            message.pop("payload", None)
            found.append(message)
    return found
