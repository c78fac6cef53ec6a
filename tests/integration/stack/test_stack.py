"""The embedded stack keeps what it acknowledged when its processes are killed."""

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from k2local.stack import LocalStack

TOPIC = "stack.test.v1"
SCHEMA = '{"type": "record", "name": "Thing", "fields": [{"name": "x", "type": "long"}]}'


async def write_record(servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=servers, transactional_id="stack-test") as producer:
        async with producer.transaction():
            await producer.send_and_wait(TOPIC, b"kept")
        await producer.begin_transaction()
        await producer.send_and_wait(TOPIC, b"open")
        await producer.abort_transaction()


async def read_record(servers: str) -> bytes | None:
    async with AIOKafkaConsumer(
        TOPIC, bootstrap_servers=servers, isolation_level="read_committed", auto_offset_reset="earliest"
    ) as consumer:
        return (await consumer.getone()).value


async def register(stack: LocalStack) -> int:
    url = f"{stack.settings.registry_url}/subjects/stack-test-value/versions"
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, json={"schema": SCHEMA})
    return int(answer.raise_for_status().json()["id"])


async def test_records_and_schema_ids_survive_a_kill_of_both_servers(stack: LocalStack) -> None:
    given = await register(stack)
    await write_record(stack.settings.bootstrap_servers)

    for name in ("kafka", "registry"):
        stack[name].kill()
    stack.stop()
    stack.start()

    assert await register(stack) == given
    assert await read_record(stack.settings.bootstrap_servers) == b"kept"
