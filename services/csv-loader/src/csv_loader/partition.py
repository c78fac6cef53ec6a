"""One input partition, exactly once: fence, then read the position, then seek; all output in one transaction.

See docs/adr/0004-loader-positions.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from uuid import uuid4

from k2common.domain.progress import CHUNKS_EXPIRED
from k2common.errors import RecordError
from k2common.kafka.boundary import UndecodableMessages, decode_boundary
from k2common.kafka.consumer import MessageReader
from k2common.kafka.positions import last_decoded, log_start
from k2common.kafka.producer import Transaction, TransactionalProducer
from k2common.observability.logging import bound, get_logger
from k2common.observability.tracing import inject, joined, tracer
from k2common.query.instruments import Instruments
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import CHUNKS, POSITIONS, STATUS

from csv_loader.counting import Lag, count
from csv_loader.expired import expired
from csv_loader.isolated import IsolatedParser
from csv_loader.metrics import LoaderMetrics
from csv_loader.processing import Chunk, Encoders, Processed, process, status
from csv_loader.settings import CsvLoaderSettings

log = get_logger(__name__)
spans = tracer(__name__)
Result = TypeVar("Result")
MAX_ATTEMPTS = 2
"""After so many unfinished ones a chunk is parsed where it can do no harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderDependencies:
    """What every partition's work needs."""

    settings: CsvLoaderSettings
    encoders: Encoders
    claims: MessageCodec
    chunks: MessageCodec
    statuses: MessageCodec
    positions: MessageCodec
    undecodable: UndecodableMessages
    instruments: Instruments
    blocking: Blocking
    clock: Clock
    metrics: LoaderMetrics
    isolated: IsolatedParser = field(default_factory=IsolatedParser)
    process_id: str = field(default_factory=lambda: uuid4().hex)
    """What this process signs its attempts with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where to go on, how many attempts to go on from there have begun, and whose the open one is."""

    offset: int
    attempts: int
    attempt_by: str | None = None

    def deaths(self, process_id: str) -> int:
        """The attempts that a process did not survive, as `process_id` sees it.

        One of its own it has survived. One that ended in an orderly way was closed. What is left is a
        process that was killed, or one that was cut off from Kafka: nobody can tell them apart.
        """
        return self.attempts - 1 if self.attempt_by == process_id else self.attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Processed chunks, and the position after them."""

    chunks: Sequence[Processed]
    position: Position


class PartitionLoader:
    """Owns input partition `partition` from its start until `stop` is set or another owner fences it."""

    def __init__(self, partition: int, *, tools: LoaderDependencies) -> None:
        self._partition = partition
        self._tools = tools
        self._kafka = tools.settings.kafka
        self._isolated = 0
        """So many chunks from here on are parsed in a process of their own."""
        self._expired: Set[str] = frozenset()
        """Uploads that have failed already; what the log still holds of them is passed over."""
        self._lag = Lag(partition, metrics=tools.metrics, now=lambda: tools.clock.now().timestamp())

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`.

        Raises Fenced when another owner has taken over, TransientError when a dependency is unavailable; the
        caller starts again if it is still the owner. Raises SetupError when the partition was not
        provisioned.
        """
        async with TransactionalProducer(
            self._kafka, f"csv-loader-{CHUNKS.name}-{self._partition}"
        ) as producer:
            position = await self._held(producer, await self._position())
            async with MessageReader(
                self._kafka, {(CHUNKS.name, self._partition): position.offset}
            ) as reader:
                log.info("partition taken", partition=self._partition, attempts=position.attempts)
                self._isolate(position)
                try:
                    messages = await self._fetched(reader, stop)
                    if messages:
                        await self._count_attempt(producer, position)
                        if not await self._work(producer, reader, messages, stop):
                            await self._close_attempt(producer, position)
                # Also when cancelled: the chunks in hand wait for the next try. The error goes on.
                except BaseException:
                    self._lag.fail()
                    raise
                self._lag.end()

    async def _work(
        self,
        producer: TransactionalProducer,
        reader: MessageReader,
        messages: Sequence[Any],
        stop: asyncio.Event,
    ) -> bool:
        """Load batch after batch until `stop`; whether there was one."""
        batch = await self._batch(reader, messages, stop)
        any_loaded = batch is not None
        while batch is not None:
            # The next chunks are parsed while these are committed.
            following = asyncio.create_task(self._next(reader, stop))
            try:
                await self._publish(producer, batch)
                batch = await following
            finally:
                following.cancel()
                await asyncio.wait({following})
        return any_loaded

    async def _position(self) -> Position:
        """The last record that is a position of this partition; others are passed."""

        async def decoded(record: Any) -> Position | None:
            try:
                with decode_boundary(record):
                    return _position_of(await self._tools.positions.decode(record.value), self._partition)
            except RecordError as error:
                self._tools.undecodable.skip(record, error)
                return None

        position = await last_decoded(self._kafka, POSITIONS.name, self._partition, decoded)
        await self._tools.undecodable.keep()
        return Position(offset=position.offset, attempts=position.deaths(self._tools.process_id))

    async def _held(self, producer: TransactionalProducer, position: Position) -> Position:
        """The position, or the log's start where that lies behind it: what was lost fails by name."""
        tools = self._tools
        start = await log_start(self._kafka, CHUNKS.name, self._partition)
        if position.offset >= start:
            return position
        ends = await expired(
            self._kafka,
            self._partition,
            claims=tools.claims,
            statuses=tools.statuses,
            chunks=tools.chunks,
        )
        self._expired = {chunk.upload.upload_id for chunk in ends}
        tools.metrics.expired.inc(len(ends))
        log.error(
            "chunks expired", partition=self._partition, lost=start - position.offset, uploads=len(ends)
        )
        moved = Position(offset=start, attempts=0)
        async with producer.transaction() as work:
            for chunk in ends:
                await self._send_status(work, Processed(chunk=chunk, failure=CHUNKS_EXPIRED), ())
            await self._send_position(work, moved)
        return moved

    def _isolate(self, position: Position) -> None:
        self._isolated = 0
        if position.attempts >= MAX_ATTEMPTS:
            # Two transactions' worth may have been under way when the process ended.
            self._isolated = 2 * self._tools.settings.loader.chunks_per_transaction
            log.warning("chunks are parsed apart", partition=self._partition, attempts=position.attempts)

    async def _count_attempt(self, producer: TransactionalProducer, position: Position) -> None:
        """Count the attempt before it is made: a chunk that ends the process is known by it afterwards."""
        by = self._tools.process_id
        async with producer.transaction() as work:
            await self._send_position(work, replace(position, attempts=position.attempts + 1, attempt_by=by))

    async def _close_attempt(self, producer: TransactionalProducer, position: Position) -> None:
        """Take back an attempt that was stopped: the next owner has nothing to fear from its chunks."""
        async with producer.transaction() as work:
            await self._send_position(work, position)

    async def _next(self, reader: MessageReader, stop: asyncio.Event) -> Batch | None:
        messages = await self._fetched(reader, stop)
        return await self._batch(reader, messages, stop) if messages else None

    async def _fetched(self, reader: MessageReader, stop: asyncio.Event) -> Sequence[Any]:
        loader = self._tools.settings.loader
        while not stop.is_set():
            # What was parsed apart is published at once: nothing of it is done again after a restart.
            limit = 1 if self._isolated else loader.chunks_per_transaction
            fetched = await reader.fetch(limit=limit, wait_seconds=loader.wait_seconds)
            if messages := fetched.get((CHUNKS.name, self._partition)):
                return messages
            self._lag.nothing_came()
        return ()

    async def _batch(
        self, reader: MessageReader, messages: Sequence[Any], stop: asyncio.Event
    ) -> Batch | None:
        """The messages processed, or as many as were by the time of `stop`; None for none."""
        place = (CHUNKS.name, self._partition)
        offset = (await reader.positions())[place]
        self._lag.came(messages, beyond=max(0, reader.known_end(place) - offset))
        chunks: list[Processed] = []
        for message in messages:
            chunk = await self._chunk(message)
            if chunk is None:
                continue
            processed = await _unless_stopped(self._processed(message, chunk), stop)
            if processed is None:
                offset = message.offset
                break
            chunks.append(processed)
        await self._tools.undecodable.keep()
        if offset == messages[0].offset:
            return None
        attempts = MAX_ATTEMPTS if self._isolated else 0
        return Batch(chunks=chunks, position=Position(offset=offset, attempts=attempts))

    async def _chunk(self, record: Any) -> Chunk | None:
        """The chunk; None for a message that is none, which is passed."""
        try:
            with decode_boundary(record):
                message = await self._tools.chunks.decode(record.value)
                return Chunk.from_avro(message, place=(record.partition, record.offset))
        except RecordError as error:
            self._tools.undecodable.skip(record, error)
            return None

    async def _processed(self, record: Any, chunk: Chunk) -> Processed:
        tools, message = self._tools, chunk.message
        if chunk.upload.upload_id in self._expired:
            return Processed(chunk=chunk, failure=CHUNKS_EXPIRED)
        upload_id, index = chunk.upload.upload_id, message["index"]
        with (
            bound(upload_id=upload_id),
            tools.metrics.parse_seconds.time(),
            joined(spans, "parse chunk", record.headers, upload_id=upload_id, index=index) as span,
        ):
            processed = replace(await self._parsed(chunk), trace=inject())
            span.set_attribute("k2.rows", processed.rows_read)
            if processed.failure_cause is not None:
                log.error("chunk parse failed", index=index, cause=processed.failure_cause)
                # It may hold what stood in the rows.
                log.debug("chunk parse failed", reason=processed.failure_reason)
            if message["terminal"]:
                log.info("upload parsed", chunks=index, failure=processed.failure)
            return processed

    async def _parsed(self, chunk: Chunk) -> Processed:
        tools = self._tools
        instruments = await tools.instruments.at(chunk.upload.instruments_version)
        if not self._isolated:
            return await tools.blocking.run(
                process, chunk, encoders=tools.encoders, instruments=instruments, now=tools.clock.now()
            )
        self._isolated -= 1
        tools.metrics.isolated.inc()
        return await tools.isolated.process(
            chunk,
            encoders=tools.encoders,
            instruments=instruments,
            now=tools.clock.now(),
            limit_seconds=tools.settings.loader.isolated_seconds,
        )

    async def _publish(self, producer: TransactionalProducer, batch: Batch) -> None:
        with self._tools.metrics.load_seconds.time():
            async with producer.transaction() as work:
                places = await self._send_rows(work, batch)
                for processed, outputs in zip(batch.chunks, places, strict=True):
                    await self._send_status(work, processed, outputs)
                await self._send_position(work, batch.position)
        self._lag.loaded()
        count(batch.chunks, self._tools.metrics)

    async def _send_position(self, work: Transaction, position: Position) -> None:
        message = {
            "partition": self._partition,
            "offset": position.offset,
            "attempts": position.attempts,
            "attempt_by": position.attempt_by,
        }
        await work.send(
            POSITIONS.name,
            key=str(self._partition).encode(),
            value=self._tools.positions.encode(message),
            partition=self._partition,
        )

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
        await work.send(STATUS.name, key=key, value=tools.statuses.encode(message), headers=processed.trace)


def _position_of(message: Mapping[str, Any], partition: int) -> Position:
    """Raises ValueError for the position of another partition, or none that could be."""
    if message["partition"] != partition or message["offset"] < 0 or message["attempts"] < 0:
        raise ValueError(f"no position of partition {partition}: {dict(message)}")
    return Position(offset=message["offset"], attempts=message["attempts"], attempt_by=message["attempt_by"])


async def _unless_stopped(work: Coroutine[Any, Any, Result], stop: asyncio.Event) -> Result | None:
    """What `work` gives, or None when `stop` is set first; a thread's work is then left to itself."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.wait({working, stopping})
