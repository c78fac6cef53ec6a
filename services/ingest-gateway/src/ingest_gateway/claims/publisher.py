"""From the spool to ingest.chunks: each chunk once, for it becomes visible with the claim that is past it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from random import Random

import pyarrow as pa
from k2common.columnar.partition import partition_of
from k2common.errors import RecordError, TransientError
from k2common.iceberg.archive import Archive, ArchiveWriter
from k2common.layouts.cutter import ChunkCut, CutPosition, cut
from k2common.layouts.model import Layout
from k2common.observability.logging import bound, get_logger
from k2common.observability.tracing import Carried, joined, tracer
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.runtime.retry import Retried, ignore_retry, until_stopped
from k2common.schemas.datasets import BULK_CHUNK_PARTITIONS, CHUNK_PARTITIONS, CHUNKS

from ingest_gateway.body.spool import Spool
from ingest_gateway.claims.claims import OPEN_STATES, Claim, Journal, Message
from ingest_gateway.metrics import GatewayMetrics

RECORD_TOO_LONG = "RECORD_TOO_LONG"
log = get_logger(__name__)
spans = tracer(__name__)


def chunk_partition(upload_id: str, size: int, *, bulk_bytes: int) -> int:
    """The partition of ingest.chunks for an upload; large ones have their own."""
    small = [p for p in range(CHUNK_PARTITIONS) if p not in BULK_CHUNK_PARTITIONS]
    group = BULK_CHUNK_PARTITIONS if size >= bulk_bytes else small
    return group[partition_of(upload_id.encode(), len(group))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One chunk as a zstd frame, and how long it was; its text is not kept."""

    start: CutPosition
    length: int
    frame: bytes

    @classmethod
    def of(cls, one: ChunkCut) -> Packed:
        """The chunk packed."""
        frame = pa.compress(one.payload, codec="zstd", asbytes=True)
        return cls(start=one.start, length=len(one.payload), frame=frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The next chunks of an upload, packed, and where it goes on; `last` when nothing is left.

    `failure` says why the upload ends here, before its last byte.
    """

    start: CutPosition
    cuts: Sequence[Packed]
    after: CutPosition
    last: bool
    failure: str | None = None


class Publisher:
    """Publishes the uploads whose claims name this replica."""

    def __init__(
        self,
        *,
        journal: Journal,
        spool: Spool,
        archive: Archive,
        chunks: MessageCodec,
        blocking: Blocking,
        clock: Clock,
        metrics: GatewayMetrics,
        replica: str,
        concurrent_uploads: int,
        chunks_per_transaction: int,
        retried: Retried = ignore_retry,
    ) -> None:
        self._journal = journal
        self._spool = spool
        self._archive = archive
        self._chunks = chunks
        self._blocking = blocking
        self._clock = clock
        self._metrics = metrics
        self._replica = replica
        self._section_chunks = chunks_per_transaction
        self._workers = concurrent_uploads
        self._retried = retried
        self._waiting: asyncio.Queue[tuple[str, str, Carried]] = asyncio.Queue()
        self._known: set[str] = set()
        self._released: set[str] = set()

    @property
    def queued(self) -> int:
        """How many uploads wait for a worker."""
        return self._waiting.qsize()

    def enqueue(self, claim: Claim) -> None:
        """Publish the upload soon; one that waits already waits on."""
        if claim.upload.upload_id not in self._known and self._spool.has(claim.upload.upload_id):
            self._known.add(claim.upload.upload_id)
            self._waiting.put_nowait((claim.key, claim.upload.upload_id, claim.trace))

    def release(self, upload_id: str) -> None:
        """Remove the body: a committed claim says that it is published or another replica's."""
        if upload_id in self._known:
            # A worker may have the file open; it removes the body when it is done.
            self._released.add(upload_id)
        else:
            self._spool.remove(upload_id)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; what is unfinished then goes on after the next start."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work(stop))

    async def _work(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        while not stop.is_set():
            waiting = asyncio.create_task(self._waiting.get())
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                return
            key, upload_id, trace = waiting.result()
            with (
                bound(upload_id=upload_id),
                joined(spans, "publish upload", trace, upload_id=upload_id, replica=self._replica),
            ):
                await until_stopped(
                    partial(self._publish, key, upload_id, stop),
                    stop=stop,
                    name="publish",
                    random=Random(),  # noqa: S311 - scatters retries
                    retried=self._retried,
                )
            self._known.discard(upload_id)
            if upload_id in self._released:
                self._released.discard(upload_id)
                self._spool.remove(upload_id)

    async def _publish(self, key: str, upload_id: str, stop: asyncio.Event) -> None:
        claim = await self._journal.read(key)
        if claim is not None and self._is_open(claim, upload_id):
            writer = await self._blocking.run(self._archive.writer, claim.upload.sha256)
            with writer:
                await self._publish_all(key, claim, writer, stop)

    async def _publish_all(
        self, key: str, claim: Claim | None, writer: ArchiveWriter, stop: asyncio.Event
    ) -> None:
        ahead: Section | None = None
        upload_id = claim.upload.upload_id if claim is not None else ""
        while claim is not None and self._is_open(claim, upload_id) and not stop.is_set():
            section = ahead if ahead and ahead.start == claim.position else await self._cut(claim)
            following = asyncio.create_task(self._following(claim, section))
            try:
                # The archive is whole before the upload can end.
                await self._blocking.run(self._keep, claim, section, writer)
                claim = await self._advance(key, claim, section)
            finally:
                ahead = await following

    def _keep(self, claim: Claim, section: Section, writer: ArchiveWriter) -> None:
        try:
            with self._spool.open(claim.upload.upload_id) as file:
                writer.fill(file, section.start.byte)
                for one in section.cuts:
                    writer.append(one.frame, start=one.start.byte, length=one.length)
                if section.last:
                    writer.fill(file, claim.upload.bytes)
                    writer.finish()
        except OSError as error:
            raise TransientError(f"the archive does not answer: {error}") from error

    def _is_open(self, claim: Claim, upload_id: str) -> bool:
        return (
            claim.upload.upload_id == upload_id
            and claim.replica == self._replica
            and claim.state in OPEN_STATES
        )

    async def _following(self, claim: Claim, section: Section) -> Section | None:
        # Cut and packed while the transaction before it is under way.
        return None if section.last else await self._cut(claim.at(section.after))

    async def _cut(self, claim: Claim) -> Section:
        return await self._blocking.run(self._section, claim)

    def _section(self, claim: Claim) -> Section:
        layout = Layout.accepted(claim.upload.layout_json)
        cuts: list[Packed] = []
        after, failure = claim.position, None
        with self._spool.open(claim.upload.upload_id) as file:
            found = cut(file, claim.position, delimiter=layout.delimiter)
            try:
                # One by one: the text of one chunk is held at a time, and those before a fault are kept.
                for one in islice(found, self._section_chunks):
                    cuts.append(Packed.of(one))
                    after = one.after
            except RecordError as error:
                log.warning("upload fails", error=str(error))
                failure = RECORD_TOO_LONG
        return Section(
            start=claim.position,
            cuts=cuts,
            after=after,
            last=failure is not None or after.byte >= claim.upload.bytes,
            failure=failure,
        )

    async def _advance(self, key: str, claim: Claim, section: Section) -> Claim | None:
        state = "published" if section.last else "publishing"
        advanced = replace(claim.at(section.after), state=state, updated_at=self._clock.now())
        with self._metrics.publish_seconds.time():
            found = await self._journal.write(
                key, lambda present: advanced if present == claim else None, self._messages(claim, section)
            )
        if found == advanced:
            self._metrics.chunks.inc(len(section.cuts))
            self._metrics.chunk_bytes.inc(sum(one.length for one in section.cuts))
            self._metrics.packed_bytes.inc(sum(len(one.frame) for one in section.cuts))
            if section.last:
                log.info("upload published", chunks=section.after.chunk)
        return found

    def _messages(self, claim: Claim, section: Section) -> list[Message]:
        chunks = [
            self._chunk(claim, start=one.start, length=one.length, payload=one.frame) for one in section.cuts
        ]
        if section.last:
            chunks.append(self.terminal(claim, section.after, failure=section.failure))
        return chunks

    def terminal(
        self, claim: Claim, after: CutPosition, *, cancelled: bool = False, failure: str | None = None
    ) -> Message:
        """The chunk that ends the upload."""
        return self._chunk(
            claim,
            start=after,
            length=0,
            payload=b"",
            terminal=True,
            cancelled=cancelled,
            failure=failure,
        )

    def _chunk(
        self,
        claim: Claim,
        *,
        start: CutPosition,
        length: int,
        payload: bytes,
        terminal: bool = False,
        cancelled: bool = False,
        failure: str | None = None,
    ) -> Message:
        upload_id = claim.upload.upload_id
        value = self._chunks.encode(
            {
                "upload": claim.upload.to_avro(),
                "index": start.chunk,
                "terminal": terminal,
                "cancelled": cancelled,
                "failure": failure,
                "first_line": start.line,
                "first_byte": start.byte,
                "header": claim.header,
                "length": length,
                "payload": payload,
            }
        )
        return Message(topic=CHUNKS.name, key=upload_id, value=value, partition=claim.chunk_partition)
