"""A retraction or redrive that a client has an answer to takes effect, whatever the broker rolls back."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import iceberg_sink.app
import ingest_gateway.app
import pytest
from iceberg_sink.settings import IcebergSinkSettings
from ingest_gateway.settings import IngestGatewaySettings
from k2common.kafka.positions import all_records
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import COMMANDS, DEAD_LETTERS, REDRIVES, TRADES
from k2common.settings.load import load
from k2common.testing.kafka_proxy import (
    END_TXN_ACCEPTED,
    ApiKey,
    Fault,
    Interception,
    KafkaProxy,
    ProxiedRequest,
)
from k2local.settings import HOST
from k2local.stack import LocalStack

from tests.integration.sink.conftest import running
from tests.integration.sink.messages import SCHEMA, message, write
from tests.integration.sink.test_dead_letters import LIMIT_SECONDS, counted, listed, posted, redriven, rows


def content() -> bytes:
    return f"ts_event_ns,symbol,venue,price,size\n1700000000000000000,A,{uuid4().hex},1,1\n".encode()


@pytest.fixture
async def proxy(sink_stack: LocalStack) -> AsyncIterator[KafkaProxy]:
    async with KafkaProxy((HOST, sink_stack.settings.kafka_port)) as found:
        yield found


@pytest.fixture
def proxied(environ: Mapping[str, str], proxy: KafkaProxy) -> Mapping[str, str]:
    return {
        **environ,
        "K2_KAFKA__BOOTSTRAP_SERVERS": proxy.bootstrap_servers,
        "K2_KAFKA__REQUEST_TIMEOUT_SECONDS": "4",
    }


@asynccontextmanager
async def both(
    *, gateway: Mapping[str, str], sink: Mapping[str, str]
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """A gateway and a sink with these environments, for as long as a test may take."""
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        running(ingest_gateway.app.build, load(IngestGatewaySettings, gateway)) as first,
        running(iceberg_sink.app.build, load(IcebergSinkSettings, sink)) as second,
    ):
        yield first, second


def skip_commits(proxy: KafkaProxy, transactional_id: str, *, times: int = 1) -> Interception:
    """Acknowledge commits that never happen."""

    def matches(request: ProxiedRequest) -> bool:
        return transactional_id.encode() in request.frame

    return proxy.intercept(
        ApiKey.END_TXN, Fault.ANSWERED, times=times, answer=END_TXN_ACCEPTED, matches=matches
    )


async def commands(settings: IngestGatewaySettings, upload_id: str) -> list[str]:
    """The kinds of the commands about the upload that a committed read shows."""
    codec = await MessageCodec.open(SchemaRegistry(settings.registry), COMMANDS)
    found = [
        await codec.decode(record.value)
        for number in range(COMMANDS.partitions)
        for record in await all_records(settings.kafka, COMMANDS.name, number)
    ]
    return [command["kind"] for command in found if command["upload_id"] == upload_id]


async def committed(settings: Any, gateway: httpx.AsyncClient) -> str:
    """An upload of one row that the sink has committed and the gateway has finished."""
    upload_id = await posted(gateway, content())
    known = await SchemaRegistry(settings.registry).ensure(TRADES.topic.subject, SCHEMA)
    await write(settings.kafka, settings.registry, upload_id, [message(upload_id, 2, schema_id=known)])
    await until_set(gateway, upload_id, "finished_at")
    return upload_id


async def until_set(gateway: httpx.AsyncClient, upload_id: str, field: str) -> None:
    """Return once the upload's receipt has the time."""

    async def value() -> Any:
        return (await gateway.get(f"/v1/uploads/{upload_id}")).json()["data"][field]

    while await value() is None:  # noqa: ASYNC110 - a condition of a service
        await asyncio.sleep(0.05)


async def retract(gateway: httpx.AsyncClient, upload_id: str, seconds: int) -> httpx.Response:
    return await gateway.post(f"/v1/uploads/{upload_id}/retract", params={"timeout": str(seconds)})


async def test_a_retraction_whose_commit_never_happened_is_written_again(
    environ: Mapping[str, str], proxied: Mapping[str, str], proxy: KafkaProxy
) -> None:
    settings = load(IngestGatewaySettings, environ)
    async with both(gateway=proxied, sink=environ) as (gateway, _):
        upload_id = await committed(settings, gateway)
        skipped = skip_commits(proxy, "gateway-")
        answer = await retract(gateway, upload_id, 30)
        assert skipped.happened.is_set()
        assert (answer.status_code, answer.json()["data"]["state"]) == (200, "retracted")


async def test_a_retraction_that_no_committed_read_shows_is_503_and_takes_effect_when_asked_again(
    environ: Mapping[str, str], proxied: Mapping[str, str], proxy: KafkaProxy
) -> None:
    settings = load(IngestGatewaySettings, environ)
    async with both(gateway=proxied, sink=environ) as (gateway, _):
        upload_id = await committed(settings, gateway)
        skipped = skip_commits(proxy, "gateway-", times=1000)
        answer = await retract(gateway, upload_id, 0)
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
        skipped.remaining = 0
        answer = await retract(gateway, upload_id, 30)
        assert (answer.status_code, answer.json()["data"]["state"]) == (200, "retracted")


async def test_a_cancellation_whose_commit_never_happened_is_written_again(
    environ: Mapping[str, str], proxied: Mapping[str, str], proxy: KafkaProxy
) -> None:
    settings = load(IngestGatewaySettings, environ)
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        running(ingest_gateway.app.build, load(IngestGatewaySettings, proxied)) as gateway,
    ):
        upload_id = await posted(gateway, content())
        await until_set(gateway, upload_id, "published_at")
        skipped = skip_commits(proxy, "gateway-")
        answer = await gateway.delete(f"/v1/uploads/{upload_id}", params={"timeout": "0"})
        assert skipped.happened.is_set()
        assert answer.status_code == 202
        assert await commands(settings, upload_id) == ["cancel"]


async def test_no_message_is_passed_whose_dead_letter_was_rolled_back(
    environ: Mapping[str, str], proxied: Mapping[str, str], proxy: KafkaProxy
) -> None:
    settings = load(IcebergSinkSettings, environ)
    async with both(gateway=environ, sink=proxied) as (gateway, client):
        upload_id = await posted(gateway, content())
        skipped = skip_commits(proxy, f"iceberg-sink-{TRADES.name}-")
        await write(settings.kafka, settings.registry, upload_id, [b"no record"])
        await counted(gateway, upload_id, committed=0, dead_lettered=1)
        assert skipped.happened.is_set()
        # The table of dead letters is committed by itself, a little later.
        await listed(client, upload_id=upload_id)
        (kept,) = rows(settings, DEAD_LETTERS.table, upload_id=upload_id)
        assert kept["message_value"] == b"no record"


async def test_a_redrive_that_no_committed_read_shows_is_503_and_takes_effect_when_asked_again(
    environ: Mapping[str, str], proxied: Mapping[str, str], proxy: KafkaProxy
) -> None:
    settings = load(IcebergSinkSettings, environ)
    async with both(gateway=environ, sink=proxied) as (gateway, client):
        upload_id = await posted(gateway, content())
        await write(settings.kafka, settings.registry, upload_id, [b"no record"])
        await counted(gateway, upload_id, committed=0, dead_lettered=1)
        marks = len(await all_records(settings.kafka, REDRIVES.name, 0))
        skip_commits(proxy, "iceberg-sink-redrive")
        answer = await client.post("/v1/dead-letters/redrive", json={"upload_id": upload_id})
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert (await redriven(client, upload_id=upload_id))["counts"]["redriven"] == 1
        assert len(await all_records(settings.kafka, REDRIVES.name, 0)) == marks + 1


async def test_a_final_receipt_whose_commit_never_happened_is_written_again(
    environ: Mapping[str, str], proxied: Mapping[str, str], proxy: KafkaProxy
) -> None:
    settings = load(IngestGatewaySettings, environ)
    async with both(gateway=proxied, sink=environ) as (gateway, _):
        upload_id = await posted(gateway, content())
        await until_set(gateway, upload_id, "published_at")
        skipped = skip_commits(proxy, "gateway-")
        known = await SchemaRegistry(settings.registry).ensure(TRADES.topic.subject, SCHEMA)
        await write(settings.kafka, settings.registry, upload_id, [message(upload_id, 2, schema_id=known)])
        await until_set(gateway, upload_id, "finished_at")
        assert skipped.happened.is_set()
        assert (await retract(gateway, upload_id, 30)).json()["data"]["state"] == "retracted"
