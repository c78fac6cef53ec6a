"""Final receipts: each published once, in one transaction with the claim that says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from k2common.observability.logging import bound, get_logger
from k2common.observability.tracing import joined, tracer
from k2common.registry.codec import MessageCodec
from k2common.runtime.clock import Clock
from k2common.runtime.retry import wait_or_stop
from k2common.schemas.datasets import UPLOADS

from ingest_gateway.claims.claims import Claim, Journal, Message
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.receipts.metric_updates import count_final
from ingest_gateway.receipts.receipts import final_record, settled
from ingest_gateway.receipts.tracker import Tracker

POLL_INTERVAL_SECONDS = 0.1
READ_BACK_SECONDS = 5.0
"""A final receipt that no committed read has shown for so long is written again."""
log = get_logger(__name__)
spans = tracer(__name__)


class Finals:
    """Finishes the uploads whose claims name this replica, once the tables have settled them.

    An upload stays open until a committed read has shown its end: a broker may roll back what it
    acknowledged.
    """

    def __init__(
        self,
        *,
        tracker: Tracker,
        journal: Journal,
        codec: MessageCodec,
        clock: Clock,
        metrics: GatewayMetrics,
        replica: str,
    ) -> None:
        self._tracker = tracker
        self._journal = journal
        self._codec = codec
        self._clock = clock
        self._metrics = metrics
        self._replica = replica
        self._written: dict[str, float] = {}
        """Until when a committed read is waited for, of each upload whose end was written."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`.

        Raises TransientError when Kafka is unavailable.
        """
        while not stop.is_set():
            changed = self._tracker.changed
            self._written = {u: until for u, until in self._written.items() if u in self._tracker.open}
            for upload_id in sorted(self._tracker.open):
                if await self._is_due(upload_id):
                    await self._finish(upload_id)
            # Many changes come at once; they are looked at together.
            await wait_or_stop(stop, POLL_INTERVAL_SECONDS)
            await _either(changed, stop, seconds=READ_BACK_SECONDS if self._written else None)

    async def _is_due(self, upload_id: str) -> bool:
        until = self._written.get(upload_id)
        if until is None:
            return True
        if self._clock.monotonic() < until:
            return False
        log.warning("final receipt not read back", upload_id=upload_id)
        claim = self._tracker.uploads[upload_id].claim
        if claim is not None:
            # The next write fences, and reads what there is.
            await self._journal.reopen(claim.key)
        return True

    async def _finish(self, upload_id: str) -> None:
        upload = self._tracker.uploads[upload_id]
        claim, progress = upload.claim, upload.progress
        if claim is None or progress is None or claim.replica != self._replica or claim.state != "published":
            return
        end = settled(progress, self._tracker)
        if end is None:
            return
        now = self._clock.now()
        record = final_record(claim.upload, progress, end, published_at=upload.published_at, now=now)
        done = replace(
            claim,
            state="final",
            outcome=end.outcome,
            released=end.outcome != "committed",
            updated_at=now,
        )

        def decide(present: Claim | None) -> Claim | None:
            return done if present == claim else None

        message = Message(topic=UPLOADS.topic.name, key=upload_id, value=self._codec.encode(record))
        with (
            bound(upload_id=upload_id),
            joined(spans, "finish upload", claim.trace, upload_id=upload_id, outcome=end.outcome),
        ):
            found = await self._journal.write(claim.key, decide, [message])
            again = upload_id in self._written
            if upload_id in self._tracker.open:
                self._written[upload_id] = self._clock.monotonic() + READ_BACK_SECONDS
            if found == done and not again:
                count_final(
                    self._metrics, record, progress, end, claim=claim, published_at=upload.published_at
                )
                log.info("upload finished", outcome=end.outcome)


async def _either(first: asyncio.Event, second: asyncio.Event, *, seconds: float | None) -> None:
    waits = {asyncio.create_task(first.wait()), asyncio.create_task(second.wait())}
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
