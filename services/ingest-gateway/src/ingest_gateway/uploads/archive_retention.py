"""How long the bytes of uploads are kept in the archive."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta

from k2common.iceberg.archive import Archive
from k2common.observability.logging import get_logger
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.runtime.retry import wait_or_stop

from ingest_gateway.claims.claims import Claim
from ingest_gateway.receipts.tracker import Tracker

POLL_INTERVAL_SECONDS = 3600.0
log = get_logger(__name__)


def expired(claims: Iterable[Claim], *, before: datetime) -> set[str]:
    """SHA-256 of the bytes that no upload since `before`, and no unfinished one, has."""
    old: set[str] = set()
    kept: set[str] = set()
    for claim in claims:
        is_old = claim.state == "final" and claim.upload.received_at < before
        (old if is_old else kept).add(claim.upload.sha256)
    return old - kept


class Keeping:
    """Removes bytes from the archive once they are older than `days`."""

    def __init__(
        self, *, archive: Archive, tracker: Tracker, blocking: Blocking, clock: Clock, days: int
    ) -> None:
        self._archive = archive
        self._tracker = tracker
        self._blocking = blocking
        self._clock = clock
        self._keep = timedelta(days=days)
        self._removed: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Look every hour until `stop`.

        Raises TransientError when the store does not answer.
        """
        while not stop.is_set():
            await self.sweep()
            await wait_or_stop(stop, POLL_INTERVAL_SECONDS)

    async def sweep(self) -> None:
        """Remove what is too old; what was removed before is not looked for again."""
        claims = [upload.claim for upload in self._tracker.uploads.values() if upload.claim is not None]
        old = expired(claims, before=self._clock.now() - self._keep)
        for sha256 in sorted(old - self._removed):
            await self._blocking.run(self._archive.remove, sha256)
            log.info("bytes removed", sha256=sha256)
        # Bytes that came again are written again.
        self._removed = old
