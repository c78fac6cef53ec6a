"""A log that is not the one that the table was filled from stops the sink; a re-base begins a new epoch.

These come last: afterwards the tables of this package are in another epoch.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from iceberg_sink import app as sink
from iceberg_sink.commits.rebase import main
from iceberg_sink.settings import IcebergSinkSettings
from k2common.errors import SetupError
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.versions.documents import head_version
from k2common.kafka.consumer import BatchReader
from k2common.kafka.identity import identify
from k2common.kafka.topics import TopicAdmin
from k2common.registry.client import SchemaRegistry
from k2common.schemas.datasets import DATASETS, TRADES
from k2common.settings.kafka import KafkaSettings
from k2common.settings.load import load
from k2common.versions.hidden import Reason
from k2common.versions.version import Version

from tests.integration.sink.conftest import running
from tests.integration.sink.messages import SCHEMA, TOPIC, message, write
from tests.integration.sink.test_dead_letters import rows

LIMIT_SECONDS = 90


async def recreated(settings: KafkaSettings) -> None:
    """Delete the topic of trades and make it again."""
    before = await identify(settings, [TOPIC])
    client = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await client.start()
    await client.delete_topics([TOPIC])
    await client.close()
    while (await identify(settings, [TOPIC])).topics.get(TOPIC) in (None, before.topics[TOPIC]):
        try:
            await TopicAdmin(settings).ensure([TRADES.topic])
        except SetupError:
            await asyncio.sleep(0.2)


def newest(settings: IcebergSinkSettings) -> Version | None:
    return head_version(load_table(open_catalog(settings.iceberg), TRADES.table))


def head(settings: IcebergSinkSettings) -> Version:
    found = newest(settings)
    assert found is not None
    return found


async def shown(settings: IcebergSinkSettings, upload_id: str, lines: list[int]) -> Version:
    """The head as soon as it shows these lines of the upload."""
    while True:
        if (version := newest(settings)) is None:
            await asyncio.sleep(0.1)
            continue
        found = [
            row["line"]
            for row in rows(settings, TRADES.table, upload_id=upload_id)
            if version.shows(
                upload_id,
                epoch=row["kafka_epoch"],
                partition=row["kafka_partition"],
                offset=row["kafka_offset"],
            )
        ]
        if sorted(found) == lines:
            return version
        await asyncio.sleep(0.1)


async def stops(settings: IcebergSinkSettings, reason: str) -> None:
    expected = pytest.RaisesExc(SetupError, match=reason)
    with pytest.RaisesGroup(expected, flatten_subgroups=True, allow_unwrapped=True):
        async with asyncio.timeout(LIMIT_SECONDS), running(sink.build, settings):
            await asyncio.Event().wait()


async def test_an_offset_beyond_the_logs_end_is_refused(environ: Mapping[str, str]) -> None:
    kafka = load(IcebergSinkSettings, environ).kafka.model_copy(update={"request_timeout_seconds": 1})
    with pytest.raises(SetupError, match="offset 1000000 was read once; the log now ends at"):
        async with BatchReader(kafka, {(TOPIC, 0): 1_000_000}):
            pass


async def test_a_topic_made_anew_stops_the_sink_and_a_new_epoch_goes_on(
    environ: Mapping[str, str], capsys: Any
) -> None:
    old = load(IcebergSinkSettings, environ)
    schema_id = await SchemaRegistry(old.registry).ensure(TRADES.topic.subject, SCHEMA)

    def values(upload_id: str) -> list[bytes | None]:
        return [message(upload_id, line, schema_id=schema_id) for line in (1, 2)]

    async with asyncio.timeout(LIMIT_SECONDS), running(sink.build, old):
        await write(old.kafka, old.registry, "BEFORE", values("BEFORE"))
        before = await shown(old, "BEFORE", [1, 2])
        await write(old.kafka, old.registry, "HALF", values("HALF"), ended=False)
        while "HALF" not in head(old).hidden:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.1)
    await recreated(old.kafka)
    await stops(old, "market.trades.v1: deleted and re-created")

    assert await asyncio.to_thread(main, ["--epoch", "1"], environ) == 78
    assert "uploads are loading" in capsys.readouterr().err
    assert head(old).epoch == 0
    assert await asyncio.to_thread(main, ["--epoch", "1", "--fail-loading"], environ) == 0
    done = capsys.readouterr().out
    assert "market.trades: epoch 1, restarts" in done
    assert "market.quotes: epoch 1, goes on at its offsets" in done
    assert await asyncio.to_thread(main, ["--epoch", "1"], environ) == 0
    assert "market.trades" not in capsys.readouterr().out
    await stops(old, "is in epoch 1, K2_KAFKA__EPOCH says 0")

    new = load(IcebergSinkSettings, {**environ, "K2_KAFKA__EPOCH": "1"})
    async with asyncio.timeout(LIMIT_SECONDS), running(sink.build, new):
        await write(new.kafka, new.registry, "AFTER", values("AFTER"))
        await shown(new, "AFTER", [1, 2])
        after = await shown(new, "BEFORE", [1, 2])
    assert (after.epoch, after.hidden["HALF"].reason) == (1, Reason.FAILED)
    found = rows(new, TRADES.table, upload_id="AFTER")
    assert {row["kafka_epoch"] for row in found} == {1}
    # The version of before shows what it showed, though the new rows lie at smaller offsets.
    assert not any(
        before.shows("AFTER", epoch=1, partition=row["kafka_partition"], offset=row["kafka_offset"])
        for row in found
    )
    assert {DATASETS[name].table for name in DATASETS} == {
        dataset.table
        for dataset in DATASETS.values()
        if (version := head_version(load_table(open_catalog(new.iceberg), dataset.table))) is not None
        and version.epoch == 1
    }
