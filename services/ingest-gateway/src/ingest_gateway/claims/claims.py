"""The claim is the journal of an upload: what it is, and how far it is published.

Claims lie in ingest.claims, compacted, by key. The transactional id of a partition belongs to whoever fenced
it last, so a claim that was read after the fence is the truth until a write fails. See
docs/adr/0007-claims-as-journal.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from random import Random
from typing import Any, Self

from k2common.columnar.partition import partition_of
from k2common.errors import RecordError, TransientError
from k2common.kafka.boundary import decode_boundary
from k2common.kafka.committed_reads import HighWatermarks
from k2common.kafka.positions import all_records
from k2common.kafka.producer import TransactionalProducer
from k2common.layouts.cutter import CutPosition
from k2common.layouts.upload import UploadSpec
from k2common.observability.tracing import Carried, carried, inject
from k2common.registry.codec import MessageCodec
from k2common.runtime.clock import Clock
from k2common.runtime.retry import delays
from k2common.schemas.datasets import CLAIM_PARTITIONS, CLAIMS
from k2common.settings.kafka import KafkaSettings

OPEN_STATES = ("claimed", "publishing")
FIRST_WAIT_SECONDS = 0.02
LONGEST_WAIT_SECONDS = 1.0
WITH_MARKER = 2
"""A claim and the marker of its transaction."""
READ_BACK_SHARE = 0.3
"""Of the time that a request may take; the rest is for fencing, reading and writing again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The Avro record Claim, field by field, and the trace of the request that claimed first.

    The trace is in the message's headers, so that whoever goes on with the upload goes on with its trace.
    """

    upload: UploadSpec
    identity: str
    idempotency_key: str | None
    state: str
    replica: str
    next_chunk: int
    next_byte: int
    next_line: int
    header: str | None
    chunk_partition: int | None
    updated_at: datetime
    outcome: str | None = None
    released: bool = False
    trace: Carried = field(default=(), compare=False)

    @property
    def key(self) -> str:
        """What may be claimed once: the client's key where one was given, else the content."""
        return claim_key(self.identity, self.idempotency_key)

    @property
    def position(self) -> CutPosition:
        """Where the next chunk begins."""
        return CutPosition(chunk=self.next_chunk, byte=self.next_byte, line=self.next_line)

    def at(self, position: CutPosition) -> Self:
        """The claim once all before `position` is published."""
        return replace(self, next_chunk=position.chunk, next_byte=position.byte, next_line=position.line)

    def to_avro(self) -> dict[str, Any]:
        """The fields as the Avro record has them."""
        record = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "trace"}
        return {**record, "upload": self.upload.to_avro()}

    @classmethod
    def from_avro(cls, record: Mapping[str, Any], *, trace: Carried = ()) -> Self:
        """The claim that `to_avro` gave, with the trace that its message carries."""
        return cls(**{**record, "upload": UploadSpec.from_avro(record["upload"])}, trace=trace)


def claim_key(identity: str, idempotency_key: str | None) -> str:
    """The key of the claim in its topic."""
    return f"content:{identity}" if idempotency_key is None else f"key:{idempotency_key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that becomes visible together with the claim."""

    topic: str
    key: str
    value: bytes
    partition: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """A claim that was written, and whether a committed read has shown it since."""

    claim: Claim
    seen: asyncio.Event = field(default_factory=asyncio.Event)


Decide = Callable[[Claim | None], Claim | None]
"""From the present claim to the next one, or None to leave it."""


class _Partition:
    """One partition of the claims and the transactional id that guards it."""

    def __init__(
        self, number: int, *, settings: KafkaSettings, codec: MessageCodec, ends: HighWatermarks
    ) -> None:
        self._number = number
        self._settings = settings
        self._codec = codec
        self._ends = ends
        self._end = 0
        """Nobody else has written since, as long as the log ends here."""
        self._lock = asyncio.Lock()
        self._opened = AsyncExitStack()
        self._producer: TransactionalProducer | None = None
        self._claims: dict[str, Claim] = {}
        self._unread: dict[str, ReadBack] = {}
        """The last write of each key that no committed read has shown yet."""

    async def write(
        self, key: str, decide: Decide, messages: Sequence[Message], *, read_back_seconds: float | None
    ) -> tuple[Claim | None, ReadBack | None]:
        """Return the claim as it is then, and what confirms it where it was written and not read since.

        With `read_back_seconds` a committed read has shown the claim and the messages on return.
        """
        async with self._lock:
            try:
                producer = await self._owned()
                claim = await self._decided(key, decide)
                if claim is None:
                    return self._claims.get(key), self._unread.get(key)
                # Before the commit: the read may be faster than its answer.
                written = self._unread[key] = ReadBack(claim=claim)
                trace = inject()
                async with producer.transaction(read_back_seconds=read_back_seconds) as work:
                    for message in messages:
                        await work.send(
                            message.topic,
                            key=message.key.encode(),
                            value=message.value,
                            partition=message.partition,
                            headers=trace,
                        )
                    value = self._codec.encode(claim.to_avro())
                    sent = await work.send(
                        CLAIMS.name,
                        key=key.encode(),
                        value=value,
                        partition=self._number,
                        headers=claim.trace,
                    )
            # Cancelled or failed, whether it was written is not known: the next call fences and reads.
            except BaseException:
                await self._give_up()
                raise
            self._claims[key] = claim
            self._end = sent.result().offset + WITH_MARKER
            if read_back_seconds is not None:
                self.on_read(key, claim)
            return claim, written

    async def _decided(self, key: str, decide: Decide) -> Claim | None:
        """What `decide` makes of the present claim.

        Raises TransientError when it would leave or refuse a claim that another owner may have changed: only
        a write is fenced.
        """
        try:
            claim = decide(self._claims.get(key))
        # Whatever the refusal is, it goes on once the claim that it is about is the last.
        except Exception:
            await self._require_current()
            raise
        if claim is None:
            await self._require_current()
        return claim

    async def _require_current(self) -> None:
        if await self._ends.of(CLAIMS.name, self._number) > self._end:
            raise TransientError(f"another owner has written to partition {self._number} of the claims")

    def on_read(self, key: str, claim: Claim) -> None:
        """Take a claim that a committed read has shown."""
        written = self._unread.get(key)
        if written is not None and written.claim == claim:
            written.seen.set()
            del self._unread[key]

    async def fence(self, producer_of: ReadBack) -> None:
        """Give up the producer that wrote what was not read back; the next write fences it and reads."""
        async with self._lock:
            if self._unread.get(producer_of.claim.key) is producer_of:
                await self._give_up()

    async def _give_up(self) -> None:
        self._producer = None
        await self._opened.aclose()

    async def close(self) -> None:
        async with self._lock:
            self._producer = None
            await self._opened.aclose()

    async def _owned(self) -> TransactionalProducer:
        if self._producer is None:
            producer = TransactionalProducer(self._settings, f"gateway-{self._number}")
            await self._opened.enter_async_context(producer)
            self._claims, self._unread = {}, {}
            self._end = await self._ends.of(CLAIMS.name, self._number)
            for record in await all_records(self._settings, CLAIMS.name, self._number):
                # What cannot be decoded is counted and kept by the follower of the claims.
                with suppress(RecordError), decode_boundary(record):
                    message = await self._codec.decode(record.value)
                    claim = Claim.from_avro(message, trace=carried(record.headers))
                    self._claims[claim.key] = claim
            self._producer = producer
        return self._producer


class Journal:
    """All claims, each written by one owner at a time among all replicas."""

    def __init__(self, settings: KafkaSettings, codec: MessageCodec, *, clock: Clock) -> None:
        self._clock = clock
        self._seconds = settings.request_timeout_seconds
        self._read_back_seconds = settings.request_timeout_seconds * READ_BACK_SHARE
        self._random = Random()  # noqa: S311 - scatters retries
        self._ends = HighWatermarks(settings)
        self._partitions = [
            _Partition(number, settings=settings, codec=codec, ends=self._ends)
            for number in range(CLAIM_PARTITIONS)
        ]

    async def write(
        self, key: str, decide: Decide, messages: Sequence[Message] = (), *, read_back: bool = False
    ) -> Claim | None:
        """Write what `decide` makes of the present claim, with the messages; returns the claim as it is then.

        Replicas that write to one partition fence each other: the loser waits a little and tries again, for
        as long as a request to Kafka may take. `decide` is called again after a failure whose outcome is not
        known, with the claim as it was found; it must know its own work again. Where it returns None or
        raises, the claim was the last of its topic. With `read_back` a committed read has shown the claim and
        the messages on return: a broker may roll back what it has acknowledged, and in one partition alone.
        Raises TransientError when Kafka is unavailable.
        """
        partition = self._partition(key)
        deadline = self._clock.monotonic() + self._seconds
        waits = delays(first=FIRST_WAIT_SECONDS, limit=LONGEST_WAIT_SECONDS, random=self._random)
        while True:
            try:
                # The follower reads claims back; what lies in other topics too is read here.
                seconds = self._read_back_seconds if read_back and messages else None
                claim, written = await partition.write(key, decide, messages, read_back_seconds=seconds)
                if read_back and written is not None:
                    await self._read_back(partition, written)
            except TransientError:
                if self._clock.monotonic() >= deadline:
                    raise
            else:
                return claim
            await self._clock.sleep(next(waits))

    async def _read_back(self, partition: _Partition, written: ReadBack) -> None:
        try:
            async with asyncio.timeout(self._read_back_seconds):
                await written.seen.wait()
        except TimeoutError as error:
            await partition.fence(written)
            message = f"the claim of upload {written.claim.upload.upload_id} was written and cannot be read"
            raise TransientError(message) from error

    async def reopen(self, key: str) -> None:
        """Give up what is known of the key's partition: the next write fences it and reads it."""
        await self._partition(key).close()

    def on_read(self, claim: Claim) -> None:
        """Take a claim that a committed read of the topic has shown."""
        self._partition(claim.key).on_read(claim.key, claim)

    def _partition(self, key: str) -> _Partition:
        return self._partitions[partition_of(key.encode(), CLAIM_PARTITIONS)]

    async def read(self, key: str) -> Claim | None:
        """The present claim.

        Raises TransientError when Kafka is unavailable.
        """
        return await self.write(key, lambda _: None)

    async def close(self) -> None:
        """Give up what is open."""
        for partition in self._partitions:
            await partition.close()
        await self._ends.close()
