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

from ingest_gateway.claims import Claim, Journal, Message
from ingest_gateway.counting import count_final
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.receipts import final_record, settled
from ingest_gateway.tracker import Tracker

LOOK_SECONDS = 0.1
log = get_logger(__name__)
spans = tracer(__name__)


class Finals:
    """Finishes the uploads whose claims name this replica, once the tables have settled them."""

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

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`.

        Raises TransientError when Kafka is away.
        """
        while not stop.is_set():
            changed = self._tracker.changed
            for upload_id in sorted(self._tracker.open):
                await self._finish(upload_id)
            # Many changes come at once; they are looked at together.
            await wait_or_stop(stop, LOOK_SECONDS)
            await _either(changed, stop)

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
            self._tracker.open.discard(upload_id)
            if found == done:
                count_final(
                    self._metrics, record, progress, end, claim=claim, published_at=upload.published_at
                )
                log.info("upload finished", outcome=end.outcome)


async def _either(first: asyncio.Event, second: asyncio.Event) -> None:
    waits = {asyncio.create_task(first.wait()), asyncio.create_task(second.wait())}
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
