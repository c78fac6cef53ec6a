"""Transactions of one transactional id: all of a unit of work is visible, or nothing.

A producer is used until its first failure and then thrown away. Whoever holds it starts again: a new producer
of the same id fences the old one and ends its open transaction; only then is the committed state read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced
from aiokafka.structs import RecordMetadata

from k2common.columnar.record_batch import EncodedBatch
from k2common.errors import Fenced, TransientError
from k2common.kafka.bounded_close import close_within
from k2common.kafka.committed_reads import require_committed
from k2common.kafka.end_txn import send_end_txn_once
from k2common.kafka.hanging_transactions import hanging_ended
from k2common.kafka.raw import ReadyBatch
from k2common.settings.kafka import KafkaSettings

Header = tuple[str, bytes]
SUSPECT_SECONDS = 1.0
"""A broker that is frozen past its session, and fenced, keeps a transaction waiting for longer."""


class Transaction:
    """Sends of one unit of work; they become visible together when the transaction's block is left."""

    def __init__(self, producer: AIOKafkaProducer, *, limit_seconds: float) -> None:
        self._producer = producer
        self._limit = limit_seconds
        self._sends: list[asyncio.Future[RecordMetadata]] = []
        self.written: list[RecordMetadata] = []
        """Where the flushed messages lie; of a batch, its first record."""

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[Header] = (),
    ) -> asyncio.Future[RecordMetadata]:
        """Queue one message; the future gives its partition and offset once `flush` has returned."""
        async with asyncio.timeout(self._limit):
            sent: asyncio.Future[RecordMetadata] = await self._producer.send(
                topic, value=value, key=key, partition=partition, headers=list(headers)
            )
        self._sends.append(sent)
        return sent

    async def send_batch(self, topic: str, batch: EncodedBatch) -> asyncio.Future[RecordMetadata]:
        """Queue a whole batch; the future gives the offset of its first record once `flush` has returned."""
        ready = ReadyBatch(batch, transactional=True)
        async with asyncio.timeout(self._limit):
            sent: asyncio.Future[RecordMetadata] = await self._producer.send_batch(
                ready, topic, partition=batch.partition
            )
        self._sends.append(sent)
        return sent

    async def flush(self) -> None:
        """Return when the broker has all that was sent; a failed send fails here and not silently."""
        sends, self._sends = self._sends, []
        async with asyncio.timeout(self._limit):
            self.written.extend(await asyncio.gather(*sends))


class TransactionalProducer(AbstractAsyncContextManager["TransactionalProducer"]):
    """One owner of `transactional_id`; entering the context fences every earlier one.

    Entering also ends what earlier ones left hanging in partitions, as their coordinator decided.
    Every method raises Fenced when a later owner has taken over and TransientError for any other failure.
    After either the outcome of the open transaction is unknown and the object is of no more use. A commit is
    requested once; without the broker's consent it raises TransientError.
    """

    def __init__(
        self, settings: KafkaSettings, transactional_id: str, *, suspect_seconds: float = SUSPECT_SECONDS
    ) -> None:
        """A transaction that takes `suspect_seconds` or longer is read back, whoever asks for it."""
        self._settings = settings
        self._suspect_seconds = suspect_seconds
        self._limit = settings.request_timeout_seconds
        self._id = transactional_id
        self._producer = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap_servers,
            transactional_id=transactional_id,
            transaction_timeout_ms=int(settings.transaction_timeout_seconds * 1000),
            request_timeout_ms=int(self._limit * 1000),
            # What is large comes packed, as whole batches or as chunks.
            compression_type=None,
            max_request_size=settings.max_request_bytes,
            retry_backoff_ms=10,
        )
        send_end_txn_once(self._producer)

    async def __aenter__(self) -> Self:
        try:
            async with self._guarded(), hanging_ended(self._settings, self._id, self._producer):
                await self._producer.start()
        # Also when cancelled: nobody else holds the producer that was begun.
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        # The next owner's fence ends what is still open.
        await close_within(self._producer.stop(), self._limit)

    @asynccontextmanager
    async def transaction(self, *, read_back_seconds: float | None = None) -> AsyncIterator[Transaction]:
        """A unit of work: committed when the block ends; left to the next fence when the block fails.

        With `read_back_seconds`, or after a long wait, a committed read has shown it in every partition on
        return: a broker may acknowledge a commit and roll it back. Raises TransientError when none does so in
        that time.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        async with self._guarded():
            await self._producer.begin_transaction()
        work = Transaction(self._producer, limit_seconds=self._limit)
        # The block may take its time; each request in it may not.
        async with self._guarded(timed=False):
            yield work
        async with self._guarded():
            await work.flush()
            await self._producer.commit_transaction()
        if read_back_seconds is None and clock() - began >= self._suspect_seconds:
            read_back_seconds = self._limit
        if read_back_seconds is not None:
            await require_committed(self._settings, work.written, seconds=read_back_seconds)

    @asynccontextmanager
    async def _guarded(self, *, timed: bool = True) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._limit if timed else None):
                yield
        except ProducerFenced as error:
            raise Fenced(f"{self._id}: a later owner has taken over") from error
        # aiokafka raises the last two from a producer that was fenced before.
        except (KafkaError, TimeoutError, IllegalOperation, AssertionError) as error:
            raise TransientError(f"{self._id}: {type(error).__name__} {error}") from error
