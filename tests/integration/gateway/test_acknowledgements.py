"""What a client is told is accepted stays accepted, whatever the broker rolls back."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
from ingest_gateway.body.decompression import UNPACKERS
from ingest_gateway.body.digests import ContentDigest
from ingest_gateway.body.limits import Limits
from ingest_gateway.body.spool import Spool
from ingest_gateway.claims.claims import Claim
from ingest_gateway.settings import IngestGatewaySettings
from k2common.kafka.positions import all_records
from k2common.layouts.catalogue import layout_named
from k2common.layouts.upload import UploadSpec
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import CLAIM_PARTITIONS, CLAIMS
from k2common.testing.kafka_proxy import END_TXN_ACCEPTED, ApiKey, Fault, KafkaProxy
from ulid import ULID

from .conftest import Gateway


def body() -> bytes:
    return f"ts_event,symbol,venue,price,size,trade_id\n2024-01-02T10:00:00,A,X,1,2,{uuid4().hex}\n".encode()


async def post(client: httpx.AsyncClient, content: bytes) -> httpx.Response:
    return await client.post(
        "/v1/uploads", params={"dataset": "trades"}, content=content, headers={"Content-Type": "text/csv"}
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - a condition of another process
            await asyncio.sleep(0.05)


async def ended(proxy: KafkaProxy, count: int) -> bool:
    return proxy.counts[ApiKey.END_TXN] >= count


async def ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


async def published(client: httpx.AsyncClient, upload_id: str) -> bool:
    answer = await client.get(f"/v1/uploads/{upload_id}")
    return answer.status_code == 200 and answer.json()["data"]["published_at"] is not None


async def found(client: httpx.AsyncClient, upload_id: str) -> dict[str, Any]:
    """The receipt; until it is there only 503 is answered."""
    while True:
        answer = await client.get(f"/v1/uploads/{upload_id}")
        if answer.status_code != 503:
            assert answer.status_code == 200
            receipt: dict[str, Any] = answer.json()["data"]
            return receipt
        await asyncio.sleep(0.01)


async def stored(settings: IngestGatewaySettings, content: bytes, *, answered: bool) -> Claim:
    """Put a body on the spool as a gateway leaves it whose claim the broker rolled back."""
    layout = layout_named("k2", dataset="trades")
    now = datetime.now(UTC)
    spec = UploadSpec(
        upload_id=str(ULID()),
        dataset="trades",
        layout="k2",
        layout_json=layout.canonical_json,
        source="default",
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        received_at=now,
    )
    claim = Claim(
        upload=spec,
        identity=hashlib.sha256(b"identity" + content).hexdigest(),
        idempotency_key=None,
        state="claimed",
        replica=settings.service.replica,
        next_chunk=0,
        next_byte=content.index(b"\n") + 1,
        next_line=2,
        header=content.split(b"\n")[0].decode(),
        chunk_partition=0,
        updated_at=now,
    )
    await leave(settings, content, claim, answered=answered)
    return claim


async def leave(settings: IngestGatewaySettings, content: bytes, claim: Claim, *, answered: bool) -> None:
    codec = await MessageCodec.open(SchemaRegistry(settings.registry), CLAIMS)
    blocking = Blocking(workers=1)
    limits = Limits(content_bytes=2**20, line_bytes=2**20, reserve_bytes=0)
    spool = Spool(settings.gateway.spool, limits=limits, blocking=blocking)

    async def parts() -> AsyncIterator[bytes]:
        yield content

    received = await spool.receive(parts(), unpacker=UNPACKERS["identity"](), expected=ContentDigest(None))
    await spool.keep(received, claim.upload.upload_id, codec.encode(claim.to_avro()))
    if answered:
        await spool.mark_answered(claim.upload.upload_id)
    blocking.close()


async def claims(settings: IngestGatewaySettings) -> dict[str, Claim]:
    """The claims, by upload, that a committed read of their topic shows."""
    codec = await MessageCodec.open(SchemaRegistry(settings.registry), CLAIMS)
    found = [
        Claim.from_avro(await codec.decode(record.value))
        for partition in range(CLAIM_PARTITIONS)
        for record in await all_records(settings.kafka, CLAIMS.name, partition)
    ]
    return {claim.upload.upload_id: claim for claim in found}


async def test_a_commit_that_never_happened_is_noticed_before_202(
    gateway: Gateway, settings: IngestGatewaySettings, proxy: KafkaProxy
) -> None:
    async with gateway() as client:
        skipped = proxy.intercept(ApiKey.END_TXN, Fault.ANSWERED, answer=END_TXN_ACCEPTED)
        answer = await post(client, body())
        assert answer.status_code == 202, answer.text
        assert skipped.happened.is_set()
    assert answer.json()["data"]["upload_id"] in await claims(settings)


async def test_an_accepted_upload_whose_claim_is_lost_is_claimed_again_at_the_next_start(
    gateway: Gateway, settings: IngestGatewaySettings
) -> None:
    content = body()
    claim = await stored(settings, content, answered=True)
    async with gateway() as client:
        receipt = await found(client, claim.upload.upload_id)
        assert receipt["sha256"] == claim.upload.sha256
        metrics = (await client.get("/metrics")).text
        assert "k2_uploads_reclaimed_total 1.0" in metrics
        await until(lambda: published(client, claim.upload.upload_id))
    assert claim.upload.upload_id in await claims(settings)


async def test_a_body_without_an_answer_and_without_a_claim_is_removed_after_its_claims_were_read(
    gateway: Gateway, settings: IngestGatewaySettings
) -> None:
    claim = await stored(settings, body(), answered=False)
    async with gateway() as client:
        await until(lambda: ready(client))
        answer = await client.get(f"/v1/uploads/{claim.upload.upload_id}")
        assert answer.status_code == 404
    assert list(settings.gateway.spool.iterdir()) == []


async def test_an_accepted_body_whose_key_is_anothers_is_kept_for_a_person(
    gateway: Gateway, settings: IngestGatewaySettings
) -> None:
    content = body()
    async with gateway() as client:
        await until(lambda: ready(client))
        other = (await post(client, content)).json()["data"]["upload_id"]
    theirs = (await claims(settings))[other]
    claim = replace(theirs, upload=replace(theirs.upload, upload_id=str(ULID())), state="claimed")
    await leave(settings, content, claim, answered=True)
    async with gateway() as client:
        await until(lambda: ready(client))
        assert "k2_spool_quarantined_bodies 1.0" in (await client.get("/metrics")).text
    quarantine = settings.gateway.spool / "quarantine"
    assert (quarantine / claim.upload.upload_id).read_bytes() == content


async def test_a_body_stays_until_a_committed_read_says_that_it_is_published(
    gateway: Gateway, settings: IngestGatewaySettings, proxy: KafkaProxy
) -> None:
    content = body()
    async with gateway() as client:
        await until(lambda: ready(client))
        # The claim's commit happens; that of the chunks is acknowledged and does not.
        ends = iter(range(10))
        skipped = proxy.intercept(
            ApiKey.END_TXN,
            Fault.ANSWERED,
            times=100,
            answer=END_TXN_ACCEPTED,
            matches=lambda _: next(ends) > 0,
        )
        answer = await post(client, content)
        assert answer.status_code == 202
        upload_id = answer.json()["data"]["upload_id"]
        await until(lambda: ended(proxy, 2))
        assert (settings.gateway.spool / upload_id).read_bytes() == content
    skipped.remaining = 0
    async with gateway() as client:
        await until(lambda: published(client, upload_id))
