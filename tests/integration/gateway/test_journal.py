"""What a replica remembers of claims decides nothing once another replica has written them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from ingest_gateway.claims.claims import Claim, Journal
from ingest_gateway.settings import IngestGatewaySettings
from k2common.layouts.catalogue import layout_named
from k2common.layouts.upload import UploadSpec
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.runtime.clock import SystemClock
from k2common.schemas.datasets import CLAIMS
from ulid import ULID


def claim_of(replica: str) -> Claim:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    spec = UploadSpec(
        upload_id=str(ULID()),
        dataset="trades",
        layout="k2",
        layout_json=layout_named("k2", dataset="trades").canonical_json,
        source="default",
        bytes=1,
        sha256="0" * 64,
        received_at=now,
    )
    return Claim(
        upload=spec,
        identity=uuid4().hex,
        idempotency_key=None,
        state="published",
        replica=replica,
        next_chunk=0,
        next_byte=0,
        next_line=1,
        header=None,
        chunk_partition=0,
        updated_at=now,
    )


@asynccontextmanager
async def two_replicas(settings: IngestGatewaySettings) -> AsyncIterator[tuple[Journal, Journal]]:
    codec = await MessageCodec.open(SchemaRegistry(settings.registry), CLAIMS)
    async with AsyncExitStack() as opened:
        journals = [Journal(settings.kafka, codec, clock=SystemClock()) for _ in range(2)]
        for journal in journals:
            opened.push_async_callback(journal.close)
        yield journals[0], journals[1]


async def test_a_claim_is_not_left_as_it_is_by_what_a_fenced_replica_remembers(
    settings: IngestGatewaySettings,
) -> None:
    claim = claim_of("one")
    final = replace(claim, state="final", outcome="committed")
    async with two_replicas(settings) as (one, other):
        await one.write(claim.key, lambda _: claim)
        await other.write(claim.key, lambda _: final)

        # So a retraction decides: of an upload that is not committed it writes nothing.
        def retracted(present: Claim | None) -> Claim | None:
            if present is None or present.outcome != "committed":
                return None
            return replace(present, outcome="retracted")

        found = await one.write(claim.key, retracted)
        assert found is not None
        assert found.outcome == "retracted"
        assert await other.read(claim.key) == found


async def test_a_request_is_not_refused_by_what_a_fenced_replica_remembers(
    settings: IngestGatewaySettings,
) -> None:
    claim = claim_of("one")
    released = replace(claim, state="final", outcome="failed", released=True)
    async with two_replicas(settings) as (one, other):
        await one.write(claim.key, lambda _: claim)
        await other.write(claim.key, lambda _: released)
        again = claim_of("one")

        def decide(present: Claim | None) -> Claim | None:
            if present is not None and not present.released:
                raise PermissionError
            return replace(again, identity=claim.identity)

        found = await one.write(claim.key, decide)
        assert found is not None
        assert found.upload == again.upload
        with pytest.raises(PermissionError):
            await one.write(claim.key, decide)
