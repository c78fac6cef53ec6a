"""A follower hands over what was there, says so, and goes on with what comes."""

import asyncio
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from k2common.kafka.follower import Follower
from k2common.kafka.positions import all_records
from k2common.kafka.producer import TransactionalProducer
from k2common.kafka.topics import TopicAdmin
from k2common.schemas.datasets import Topic
from k2common.settings.kafka import KafkaSettings
from k2local.stack import LocalStack


async def test_all_records_of_all_partitions_then_the_new_ones(stack: LocalStack) -> None:
    settings = KafkaSettings(bootstrap_servers=stack.settings.bootstrap_servers)
    topic = Topic(name=f"test.{uuid4().hex}.v1", schema="claims", partitions=3)
    await TopicAdmin(settings).ensure([topic])

    async def send(first: int) -> None:
        async with TransactionalProducer(settings, topic.name) as producer, producer.transaction() as work:
            for number in range(first, first + 30):
                await work.send(topic.name, value=str(number).encode(), partition=number % 3)
        for partition in range(topic.partitions):
            # Returns when the transaction can be read; the commit is answered a little before that.
            await all_records(settings, topic.name, partition)

    seen: list[int] = []
    changed = asyncio.Event()

    async def on_record(record: ConsumerRecord) -> None:
        seen.append(int(record.value))
        changed.set()

    stop = asyncio.Event()
    await send(0)
    follower = Follower(settings, topic, on_record=on_record)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(follower.run(stop))
        await follower.caught_up.wait()
        assert sorted(seen) == list(range(30))
        await send(30)
        while len(seen) < 60:
            changed.clear()
            await changed.wait()
        stop.set()
    assert [number for number in seen if number % 3 == 0] == list(range(0, 60, 3))
    later = Follower(settings, topic, on_record=on_record, starts=follower.positions)
    stop.clear()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(later.run(stop))
        await later.caught_up.wait()
        stop.set()
    assert len(seen) == 60


@pytest.mark.parametrize("steps", range(8))
async def test_a_cancellation_that_comes_while_a_consumer_stops_ends_it(
    steps: int, stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = KafkaSettings(bootstrap_servers=stack.settings.bootstrap_servers)
    topic = Topic(name=f"test.{uuid4().hex}.v1", schema="claims", partitions=1)
    await TopicAdmin(settings).ensure([topic])
    stopped = AIOKafkaConsumer.stop

    async def stop_and_cancel(consumer: AIOKafkaConsumer) -> None:
        cancel_after(steps)
        await stopped(consumer)

    def cancel_after(left: int) -> None:
        """Cancel the follower after so many steps of the event loop."""
        if left:
            asyncio.get_running_loop().call_soon(cancel_after, left - 1)
        else:
            following.cancel()

    async def on_record(_: ConsumerRecord) -> None:
        return

    monkeypatch.setattr(AIOKafkaConsumer, "stop", stop_and_cancel)
    following = asyncio.create_task(Follower(settings, topic, on_record=on_record).run(asyncio.Event()))
    done, _ = await asyncio.wait({following}, timeout=30)
    assert done
    assert following.cancelled()
