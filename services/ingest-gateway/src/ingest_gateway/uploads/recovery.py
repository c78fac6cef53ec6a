"""What a start finds on the spool and no claim in Kafka names: claimed again, removed or kept for a person.

A body is removed only where the claims say so, read by their owner to the end: never because one is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from k2common.errors import RecordError
from k2common.observability.logging import get_logger
from k2common.registry.codec import MessageCodec

from ingest_gateway.body.spool import Spool, StoredBody
from ingest_gateway.claims.claims import Claim, Journal
from ingest_gateway.claims.publisher import Publisher
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.receipts.tracker import Tracker

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Decides about the bodies of this replica after the topics were read to their ends."""

    spool: Spool
    journal: Journal
    codec: MessageCodec
    tracker: Tracker
    publisher: Publisher
    metrics: GatewayMetrics

    async def recover(self) -> None:
        """Decide about every body that the start found.

        Raises TransientError when Kafka is unavailable; calling it again goes on.
        """
        for stored in self.spool.stored():
            upload = self.tracker.uploads.get(stored.upload_id)
            if upload is None or not upload.known:
                await self._recover(stored)
            elif upload.claim is None:
                # Its final receipt is known; the claim was compacted away by the next upload of its key.
                self.spool.remove(stored.upload_id)

    async def _recover(self, stored: StoredBody) -> None:
        claim = await self._claim(stored)
        if claim is None:
            self._quarantine(stored, "nothing says what the body is")
        elif stored.answered:
            await self._claim_again(stored, claim)
        else:
            await self._remove_unanswered(stored, claim)

    async def _claim(self, stored: StoredBody) -> Claim | None:
        try:
            claim = Claim.from_avro(await self.codec.decode(stored.claim))
        except RecordError:
            return None
        return claim if claim.upload.upload_id == stored.upload_id else None

    async def _claim_again(self, stored: StoredBody, claim: Claim) -> None:
        def decide(present: Claim | None) -> Claim | None:
            return claim if present is None or present.released else None

        found = await self.journal.write(claim.key, decide, read_back=True)
        if found is None or found.upload.upload_id != stored.upload_id:
            other = "" if found is None else found.upload.upload_id
            self._quarantine(stored, "another upload has its key", other=other)
            return
        self.metrics.reclaimed.inc()
        self.publisher.enqueue(found)
        log.error("accepted upload claimed again", upload_id=stored.upload_id)

    async def _remove_unanswered(self, stored: StoredBody, claim: Claim) -> None:
        # The owner of the partition has fenced every writer before it reads: no claim can come any more.
        present = await self.journal.read(claim.key)
        if present is None or present.upload.upload_id != stored.upload_id:
            self.spool.remove(stored.upload_id)
            log.info("unclaimed body removed", upload_id=stored.upload_id)

    def _quarantine(self, stored: StoredBody, reason: str, **fields: str) -> None:
        self.spool.quarantine(stored.upload_id)
        log.error(
            "body quarantined", upload_id=stored.upload_id, answered=stored.answered, reason=reason, **fields
        )
