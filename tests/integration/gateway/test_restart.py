"""Until a gateway has read its topics to their ends it says of nothing that it does not exist."""

import asyncio

import pytest
from ingest_gateway.settings import IngestGatewaySettings
from k2common.kafka.follower import Follower
from k2common.kafka.producer import TransactionalProducer
from k2common.schemas.datasets import CLAIMS
from k2common.testing.kafka_proxy import ApiKey, Fault, KafkaProxy

from .conftest import Gateway
from .test_acknowledgements import body, post, ready, until

UNKNOWN = "01J00000000000000000000000"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/v1/uploads/{UNKNOWN}"),
        ("GET", f"/v1/uploads/{UNKNOWN}?wait=committed&timeout=0"),
        ("GET", f"/v1/uploads/{UNKNOWN}/content"),
        ("GET", f"/v1/uploads/{UNKNOWN}/rejects"),
        ("DELETE", f"/v1/uploads/{UNKNOWN}"),
        ("POST", f"/v1/uploads/{UNKNOWN}/retract"),
        ("POST", f"/v1/uploads/{UNKNOWN}/reload"),
        ("GET", "/v1/uploads"),
        ("GET", f"/v1/batches/{UNKNOWN}"),
        ("POST", f"/v1/uploads?dataset=trades&replaces={UNKNOWN}"),
        ("POST", f"/v1/uploads?dataset=trades&repairs={UNKNOWN}"),
    ],
)
async def test_what_is_not_known_yet_is_503(
    method: str, path: str, gateway: Gateway, proxy: KafkaProxy
) -> None:
    reads = proxy.intercept(ApiKey.FETCH, Fault.DELAYED, times=10_000)
    content, headers = (body(), {"Content-Type": "text/csv"}) if "?dataset" in path else (None, {})
    async with gateway() as client:
        answer = await client.request(method, path, content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert "Retry-After" in answer.headers
        reads.remaining = 0
        reads.proceed.set()
        await until(lambda: ready(client))
        answer = await client.request(method, path, content=content, headers=headers)
        assert answer.status_code == (200 if path == "/v1/uploads" else 422 if "?dataset" in path else 404)


async def test_an_upload_that_was_known_is_never_404_after_a_restart(
    gateway: Gateway, proxy: KafkaProxy
) -> None:
    async with gateway() as client:
        await until(lambda: ready(client))
        upload_id = (await post(client, body())).json()["data"]["upload_id"]
    statuses = []
    reads = proxy.intercept(ApiKey.FETCH, Fault.DELAYED, times=10_000)
    async with gateway() as client:
        while statuses[-1:] != [200]:
            statuses.append((await client.get(f"/v1/uploads/{upload_id}")).status_code)
            reads.remaining = 0
            reads.proceed.set()
            await asyncio.sleep(0.01)
    assert set(statuses) == {503, 200}


async def test_a_transaction_that_is_open_at_the_start_is_waited_for(
    gateway: Gateway, settings: IngestGatewaySettings
) -> None:
    async def start_beside_an_open_transaction() -> None:
        async with (
            TransactionalProducer(settings.kafka, "test-open") as producer,
            producer.transaction() as work,
        ):
            await work.send(CLAIMS.name, key=b"open", value=b"never committed", partition=0)
            await work.flush()
            async with gateway() as client:
                answer = await client.get(f"/v1/uploads/{UNKNOWN}")
                assert answer.status_code == 503
                # Behind the last stable offset, where the open transaction is, nothing was read.
                reader = Follower(settings.kafka, CLAIMS, on_record=ignore)
                following = asyncio.create_task(reader.run(asyncio.Event()))
                await until(lambda: has_position(reader))
                seen.append(reader.caught_up.is_set())
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            raise ZeroDivisionError

    seen: list[bool] = []
    with pytest.raises(ZeroDivisionError):
        await start_beside_an_open_transaction()
    assert seen == [False]
    # The fence ends the transaction: other tests read these claims.
    async with TransactionalProducer(settings.kafka, "test-open"):
        pass


async def ignore(_: object) -> None:
    return


async def has_position(follower: Follower) -> bool:
    return len(follower.positions) == CLAIMS.partitions
