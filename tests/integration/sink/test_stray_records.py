"""A record that no status names is kept out of the table and hides nothing, whatever is restarted."""

import asyncio
from collections.abc import Mapping
from typing import Any

import ingest_gateway.app
from aiokafka import AIOKafkaProducer
from iceberg_sink import app as sink
from iceberg_sink.batches.stray_records import STRAY
from iceberg_sink.settings import IcebergSinkSettings
from ingest_gateway.settings import IngestGatewaySettings
from k2common.domain.dead_letters import redriven_header
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.versions.documents import head_version
from k2common.registry.client import SchemaRegistry
from k2common.schemas.datasets import DEAD_LETTERS, TRADES
from k2common.settings.load import load
from k2common.versions.version import Version

from tests.integration.sink.conftest import running
from tests.integration.sink.messages import SCHEMA, TOPIC, message, write
from tests.integration.sink.test_dead_letters import ROWS, counted, posted, redriven, rows

LIMIT_SECONDS = 120
UNKNOWN = "01STRAY0000000000000000000"


def head(settings: IcebergSinkSettings) -> Version:
    version = head_version(load_table(open_catalog(settings.iceberg), TRADES.table))
    assert version is not None
    return version


async def send(settings: IcebergSinkSettings, values: list[bytes], *, redriven: bool = False) -> list[int]:
    """As a stranger would, by a plain producer; the offsets in partition 0."""
    headers = [redriven_header((TOPIC, 0, 0, 0))] if redriven else []
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
        sent = [
            await producer.send_and_wait(TOPIC, value, key=b"k", partition=0, headers=headers)
            for value in values
        ]
    return [record.offset for record in sent]


async def letters(settings: IcebergSinkSettings, offsets: list[int]) -> list[dict[str, Any]]:
    """The dead letters of these offsets once there is one for each."""
    while True:
        kept = [row for row in rows(settings, DEAD_LETTERS.table) if row["topic_offset"] in offsets]
        kept = [row for row in kept if (row["topic"], row["topic_partition"]) == (TOPIC, 0)]
        if len(kept) >= len(offsets):
            return kept
        await asyncio.sleep(0.2)


async def passed(settings: IcebergSinkSettings, offset: int) -> Version:
    while True:
        if (version := head(settings)).offsets.get(0, 0) > offset:
            return version
        await asyncio.sleep(0.1)


async def test_a_stray_is_a_dead_letter_and_hides_nothing(environ: Mapping[str, str]) -> None:
    settings = load(IcebergSinkSettings, environ)
    gateway_settings = load(IngestGatewaySettings, environ)
    async with (
        asyncio.timeout(LIMIT_SECONDS),
        running(ingest_gateway.app.build, gateway_settings) as gateway,
    ):
        content = ROWS + b"1700000000000000000,STRAY,X,1,1\n"
        upload_id = await posted(gateway, content, filename="strays.csv")
        schema_id = await SchemaRegistry(settings.registry).ensure(TRADES.topic.subject, SCHEMA)
        own = [message(upload_id, line, schema_id=schema_id) for line in (2, 3, 4, 5)]
        async with running(sink.build, settings) as client:
            first = await write(settings.kafka, settings.registry, upload_id, own)
            receipt = await counted(gateway, upload_id, committed=4)
            strays = [message(upload_id, 99, schema_id=schema_id), message(UNKNOWN, 2, schema_id=schema_id)]
            offsets = await send(settings, strays)
            # Not by a header either: the mark of a redrive names the offset.
            offsets += await send(settings, [message(upload_id, 100, schema_id=schema_id)], redriven=True)
            kept = await letters(settings, offsets)
            assert {row["reason"] for row in kept} == {STRAY}
            assert [row["upload_id"] for row in kept] == [None] * 3
            version = await passed(settings, offsets[-1])
            assert not {upload_id, UNKNOWN} & version.hidden.keys()
            place = {"partition": 0, "offset": offsets[0]}
            found = await redriven(client, topic=TOPIC, offsets=[place])
            assert (found["counts"]["redriven"], found["counts"]["no_upload"]) == (0, 1)
        assert (receipt["state"], first < offsets[0]) == ("committed", True)

        # Restarted, the sink judges what comes next by what it reads again, and the strays stay away.
        more = await send(settings, [message(upload_id, 101, schema_id=schema_id)])
        other = await write(settings.kafka, settings.registry, UNKNOWN, strays[1:], ended=False)
        more += await send(settings, [message(UNKNOWN, 3, schema_id=schema_id)])
        async with running(sink.build, settings):
            await letters(settings, more)
            version = await passed(settings, more[-1])
        assert upload_id not in version.hidden
        assert {row["line"] for row in rows(settings, TRADES.table, upload_id=upload_id)} == {2, 3, 4, 5}
        assert [row["kafka_offset"] for row in rows(settings, TRADES.table, upload_id=UNKNOWN)] == [other]
        assert len(await letters(settings, [*offsets, *more])) == 5
