"""A chunk is parsed apart after two processes died over it; restarts that no chunk caused are not counted."""

import asyncio
import sys
from dataclasses import replace
from typing import Any

import pytest
from csv_loader.isolated import IsolatedParser
from csv_loader.partition import LoaderDependencies, PartitionLoader
from k2common.errors import TransientError
from k2common.kafka.positions import last_record
from k2common.kafka.producer import TransactionalProducer
from k2common.schemas.datasets import CHUNKS, POSITIONS
from ulid import ULID

from tests.integration.loader.chunks import chunk, statuses_of

PARTITION = 1
LIMIT_SECONDS = 120
CHILD = """
import os, signal
from csv_loader.isolated import main
from csv_loader.processing import process

def parse(chunk, **given):
    if chunk.upload.source == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return process(chunk, **given)

main(parse)
"""


async def position(tools: LoaderDependencies) -> dict[str, Any]:
    record = await last_record(tools.settings.kafka, POSITIONS.name, PARTITION)
    return dict(await tools.positions.decode(record.value))


async def publish(tools: LoaderDependencies, sources: dict[str, str], *, deaths: int = 0) -> None:
    at = await position(tools)
    async with (
        TransactionalProducer(tools.settings.kafka, "test-chunks") as producer,
        producer.transaction() as work,
    ):
        for upload_id, source in sources.items():
            message = chunk(upload_id, "trades")
            message["upload"]["source"] = source
            value = tools.chunks.encode(message)
            await work.send(CHUNKS.name, key=upload_id.encode(), value=value, partition=PARTITION)
        if deaths:
            value = tools.positions.encode({**at, "attempts": deaths, "attempt_by": "another"})
            key = str(PARTITION).encode()
            await work.send(POSITIONS.name, key=key, value=value, partition=PARTITION)


async def loaded(tools: LoaderDependencies, uploads: list[str]) -> dict[str, Any]:
    stop = asyncio.Event()
    work = asyncio.create_task(PartitionLoader(PARTITION, tools=tools).run(stop))
    async with asyncio.timeout(LIMIT_SECONDS):
        found = await statuses_of(tools, uploads)
        stop.set()
        await work
    return found


async def test_a_chunk_over_which_processes_died_is_parsed_apart(tools: LoaderDependencies) -> None:
    bad, good = str(ULID()), str(ULID())
    await publish(tools, {bad: "dies", good: "s"}, deaths=2)
    found = await loaded(replace(tools, isolated=IsolatedParser((sys.executable, "-c", CHILD))), [bad, good])
    assert (found[bad]["failure"], found[bad]["rows_accepted"]) == ("CHUNK_UNPARSEABLE", 0)
    assert found[bad]["failure_reason"] == "the parser ended with exit code -9"
    assert (found[good]["failure"], found[good]["rows_accepted"]) == (None, 1)


async def test_an_attempt_that_the_process_survives_is_not_counted(
    tools: LoaderDependencies, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = str(ULID())
    await publish(tools, {upload_id: "s"})
    before = (await position(tools))["attempts"]

    async def away(*_: Any) -> None:
        raise TransientError("the broker was restarted")

    with monkeypatch.context() as patched:
        patched.setattr(PartitionLoader, "_publish", away)
        for _ in range(3):
            with pytest.raises(TransientError):
                await PartitionLoader(PARTITION, tools=tools).run(asyncio.Event())
            at = await position(tools)
            assert (at["attempts"], at["attempt_by"]) == (before + 1, tools.process_id)
    await loaded(tools, [upload_id])
    at = await position(tools)
    assert at["attempt_by"] is None


async def test_an_attempt_that_is_stopped_is_closed(
    tools: LoaderDependencies, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = str(ULID())
    await publish(tools, {upload_id: "s"})
    before = (await position(tools))["attempts"]
    stop = asyncio.Event()

    async def endless(*_: Any) -> None:
        stop.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(PartitionLoader, "_parsed", endless)
        async with asyncio.timeout(LIMIT_SECONDS):
            await PartitionLoader(PARTITION, tools=tools).run(stop)
    at = await position(tools)
    assert (at["attempts"], at["attempt_by"]) == (before, None)
    assert (await loaded(tools, [upload_id]))[upload_id]["rows_accepted"] == 1
