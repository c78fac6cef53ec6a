"""One input partition, exactly once: fence, then read the position, then seek; all output in one transaction.

See docs/adr/0004-loader-positions.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from k2common.errors import SetupError
from k2common.kafka.consumer import MessageReader
from k2common.kafka.positions import last_record
from k2common.kafka.producer import Transaction, TransactionalProducer
from k2common.layouts.upload import UploadSpec
from k2common.observability.logging import get_logger
from k2common.observability.tracing import extract, tracer
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import CHUNKS, POSITIONS, STATUS

from csv_loader.instruments import Instruments
from csv_loader.metrics import LoaderMetrics
from csv_loader.processing import Chunk, Encoders, Processed, process, status
from csv_loader.settings import CsvLoaderSettings

log = get_logger(__name__)
spans = tracer(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every partition's work needs."""

    settings: CsvLoaderSettings
    encoders: Encoders
    chunks: MessageCodec
    statuses: MessageCodec
    positions: MessageCodec
    instruments: Instruments
    blocking: Blocking
    clock: Clock
    metrics: LoaderMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Processed chunks, and the position after them."""

    chunks: Sequence[Processed]
    position: int


class PartitionLoader:
    """Owns input partition `partition` from its start until `stop` is set or another owner fences it."""

    def __init__(self, partition: int, *, tools: Tools) -> None:
        self._partition = partition
        self._tools = tools
        self._kafka = tools.settings.kafka

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`.

        Raises Fenced when another owner has taken over, TransientError when a neighbour is away; the caller
        starts anew if it is still the owner. Raises SetupError when the log has lost what is to be read.
        """
        async with TransactionalProducer(
            self._kafka, f"csv-loader-{CHUNKS.name}-{self._partition}"
        ) as producer:
            place = (CHUNKS.name, self._partition)
            async with MessageReader(self._kafka, {place: await self._position()}) as reader:
                log.info("partition taken", partition=self._partition)
                following = asyncio.create_task(self._next(reader, stop))
                try:
                    while (batch := await following) is not None:
                        # The next chunks are parsed while these are committed.
                        following = asyncio.create_task(self._next(reader, stop))
                        await self._publish(producer, batch)
                finally:
                    following.cancel()
                    await asyncio.wait({following})

    async def _position(self) -> int:
        record = await last_record(self._kafka, POSITIONS.name, self._partition)
        if record.value is None:
            raise SetupError(f"the position of partition {self._partition} was deleted")
        offset: int = (await self._tools.positions.decode(record.value))["offset"]
        return offset

    async def _next(self, reader: MessageReader, stop: asyncio.Event) -> Batch | None:
        loader = self._tools.settings.loader
        place = (CHUNKS.name, self._partition)
        while not stop.is_set():
            fetched = await reader.fetch(
                limit=loader.chunks_per_transaction, wait_seconds=loader.wait_seconds
            )
            if messages := fetched.get(place):
                position = (await reader.positions())[place]
                return Batch(
                    chunks=[await self._processed(message) for message in messages], position=position
                )
        return None

    async def _processed(self, record: Any) -> Processed:
        tools = self._tools
        message = await tools.chunks.decode(record.value)
        chunk = Chunk(message=message, upload=UploadSpec.from_avro(message["upload"]))
        instruments = await tools.instruments.at(chunk.upload.instruments_version)
        context = extract(record.headers)
        with tools.metrics.parse_seconds.time(), spans.start_as_current_span("parse chunk", context=context):
            return await tools.blocking.run(
                process, chunk, encoders=tools.encoders, instruments=instruments, now=tools.clock.now()
            )

    async def _publish(self, producer: TransactionalProducer, batch: Batch) -> None:
        with self._tools.metrics.publish_seconds.time():
            async with producer.transaction() as work:
                places = await self._send_rows(work, batch)
                for processed, outputs in zip(batch.chunks, places, strict=True):
                    await self._send_status(work, processed, outputs)
                position = {"partition": self._partition, "offset": batch.position, "attempts": 0}
                await work.send(
                    POSITIONS.name,
                    key=str(self._partition).encode(),
                    value=self._tools.positions.encode(position),
                    partition=self._partition,
                )
        self._count(batch)

    async def _send_rows(self, work: Transaction, batch: Batch) -> list[list[dict[str, Any]]]:
        # A status names the offsets of its rows, so these are awaited before it is written.
        sent = [
            [
                (output.topic, encoded, await work.send_batch(output.topic, encoded))
                for output in processed.outputs
                for encoded in output.batches
            ]
            for processed in batch.chunks
        ]
        await work.flush()
        return [
            [
                {
                    "topic": topic,
                    "partition": encoded.partition,
                    "base_offset": future.result().offset,
                    "count": encoded.count,
                }
                for topic, encoded, future in of_chunk
            ]
            for of_chunk in sent
        ]

    async def _send_status(
        self, work: Transaction, processed: Processed, outputs: Sequence[dict[str, Any]]
    ) -> None:
        tools = self._tools
        message = status(processed, outputs, epoch=self._kafka.epoch, now=tools.clock.now())
        key = processed.chunk.upload.upload_id.encode()
        await work.send(STATUS.name, key=key, value=tools.statuses.encode(message))

    def _count(self, batch: Batch) -> None:
        metrics = self._tools.metrics
        for processed in batch.chunks:
            rows = metrics.rows.labels
            dataset = processed.chunk.upload.dataset
            rows(dataset, "accepted").inc(processed.rows_accepted)
            rows(dataset, "rejected").inc(processed.rows_rejected)
            rows(dataset, "filtered").inc(processed.rows_filtered)
            metrics.bytes.inc(processed.chunk.message["length"])
        metrics.chunks.inc(len(batch.chunks))
