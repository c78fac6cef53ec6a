"""Topics, subjects and tables of the one table in the code, made where they are missing.

`python -m k2common.provision`; doing it again changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

import pyarrow as pa

from k2common.columnar.encode import RecordEncoder
from k2common.errors import SetupError, TransientError
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.kafka.positions import all_records
from k2common.kafka.producer import TransactionalProducer
from k2common.kafka.topics import TopicAdmin
from k2common.registry.client import SchemaRegistry
from k2common.schemas.datasets import POSITIONS, TOPICS, avro_schema
from k2common.settings.block import Block
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.kafka import KafkaSettings
from k2common.settings.load import load
from k2common.settings.registry import RegistrySettings

WAIT_SECONDS = 120.0
PAUSE_SECONDS = 1.0


class ProvisionSettings(Block):
    """What has to be reached to make everything."""

    kafka: KafkaSettings
    registry: RegistrySettings
    iceberg: IcebergSettings


async def provision(settings: ProvisionSettings) -> None:
    """Make what is missing.

    Raises SetupError when something is there in another form, TransientError when a dependency is
    unavailable.
    """
    registry = SchemaRegistry(settings.registry)
    framed = [topic for topic in TOPICS if topic.framed]
    ids = {topic.schema: await registry.ensure(topic.subject, avro_schema(topic.schema)) for topic in framed}
    for topic in framed:
        await registry.require_compatibility(topic.subject)
    await TopicAdmin(settings.kafka).ensure(TOPICS)
    await _seed_positions(settings.kafka, ids[POSITIONS.schema])
    await asyncio.to_thread(lambda: ensure_tables(open_catalog(settings.iceberg)))


async def _seed_positions(settings: KafkaSettings, schema_id: int) -> None:
    # A partition without any position is an error to the loader and never "from the beginning".
    encoder = RecordEncoder(avro_schema(POSITIONS.schema), schema_id)
    async with TransactionalProducer(settings, "provision") as producer:
        empty = [
            partition
            for partition in range(POSITIONS.partitions)
            if not await all_records(settings, POSITIONS.name, partition)
        ]
        if not empty:
            return
        async with producer.transaction() as work:
            for partition in empty:
                row = {"partition": partition, "offset": 0, "attempts": 0}
                rows = pa.RecordBatch.from_pylist([row], schema=encoder.arrow_schema)
                value: bytes = encoder.messages(rows)[0].as_py()
                await work.send(POSITIONS.name, key=str(partition).encode(), value=value, partition=partition)


def main(*, wait_seconds: float = WAIT_SECONDS) -> None:
    """Entry point: dependencies that are unavailable are waited for.

    Exit code 78 when it cannot be done as configured, 75 when a dependency stayed unavailable.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            asyncio.run(provision(load(ProvisionSettings, os.environ)))
        except SetupError as error:
            sys.stderr.write(f"provision: {error}\n")
            sys.exit(os.EX_CONFIG)
        except TransientError as error:
            sys.stderr.write(f"provision: waits: {error}\n")
            if time.monotonic() >= deadline:
                sys.exit(os.EX_TEMPFAIL)
            time.sleep(PAUSE_SECONDS)
        else:
            return


if __name__ == "__main__":
    main()
