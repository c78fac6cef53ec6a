"""Uploads as gateway and loader put them into Kafka: rows and statuses in transactions, and commands."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Set
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from k2common.columnar.arrow import arrow_schema
from k2common.columnar.encode import RecordEncoder
from k2common.columnar.partition import partition_of
from k2common.columnar.record_batch import encode_batches, keys_of
from k2common.errors import TransientError
from k2common.kafka.producer import TransactionalProducer
from k2common.provision import ProvisionSettings
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import COMMANDS, STATUS, TRADES, avro_schema
from k2common.testing.iceberg import trade_rows

TRIES = 40
SYMBOLS = [f"S{n}" for n in range(12)]


@dataclass
class Upload:
    """What was put into Kafka of an upload, and what is to become of it."""

    upload_id: str
    rows: int = 0
    failure: str | None = None
    replaces: str | None = None
    retracted: bool = False


@dataclass
class Publisher:
    """Remembers every record by its place in Kafka: its upload and line."""

    settings: ProvisionSettings
    records: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)
    places: dict[str, set[tuple[int, int]]] = field(default_factory=lambda: defaultdict(set))
    ends: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    async def open(self) -> None:
        """Registers what is to be written."""
        registry = SchemaRegistry(self.settings.registry)
        schema = avro_schema(TRADES.topic.schema)
        self._encoder = RecordEncoder(schema, await registry.ensure(TRADES.topic.subject, schema))
        self._columns = arrow_schema(schema)
        self._statuses = await MessageCodec.open(registry, STATUS)
        self._commands = await MessageCodec.open(registry, COMMANDS)

    async def publish(
        self, *, rows: int, chunks: int, failure: str | None = None, replaces: str | None = None
    ) -> Upload:
        """One upload, each chunk in a transaction of its own, the end in the last."""
        upload = Upload(f"U{len(self.uploads):025}", failure=failure, replaces=replaces)
        self.uploads.append(upload)
        async with self._producer("chaos") as producer:
            for index in range(chunks):
                await self._chunk(producer, upload, index, rows)
            async with producer.transaction() as work:
                await self._status(work, upload, chunks, terminal=True)
        return upload

    def last_places(self, upload: Upload) -> Set[tuple[int, int]]:
        """Where the last records of the upload's batches lie."""
        return self.places[upload.upload_id]

    async def retract(self, upload: Upload) -> None:
        """Take it back."""
        message = {
            "upload_id": upload.upload_id,
            "kind": "retract",
            "issued_at": datetime.now(UTC),
            "arguments": {"dataset": TRADES.name, "ranges": "[]"},
        }
        key = upload.upload_id.encode()
        async with self._producer("chaos-commands") as producer, producer.transaction() as work:
            await work.send(COMMANDS.name, key=key, value=self._commands.encode(message))
        upload.retracted = True

    @asynccontextmanager
    async def _producer(self, name: str) -> AsyncIterator[TransactionalProducer]:
        """A producer; a broker that has just come back may need some tries."""
        async with AsyncExitStack() as opened:
            for left in reversed(range(TRIES)):
                try:
                    started = TransactionalProducer(self.settings.kafka, name)
                    producer = await opened.enter_async_context(started)
                    break
                except TransientError:
                    if not left:
                        raise
                    await asyncio.sleep(0.5)  # the real broker is being restarted
            yield producer

    async def _chunk(self, producer: TransactionalProducer, upload: Upload, index: int, rows: int) -> None:
        table = trade_rows(0, rows, upload=upload.upload_id)
        lines = np.arange(rows) + 2 + index * rows
        symbols = [SYMBOLS[line % len(SYMBOLS)] for line in lines]
        table = table.set_column(table.column_names.index("line"), "line", pa.array(lines))
        table = table.set_column(table.column_names.index("symbol"), "symbol", pa.array(symbols))
        batch = table.select(self._columns.names).cast(self._columns).combine_chunks().to_batches()[0]
        batches = encode_batches(
            batch,
            self._encoder,
            keys=keys_of(batch, TRADES.key),
            partitions=TRADES.topic.partitions,
            timestamp_ms=int(datetime.now(UTC).timestamp() * 1000),
            max_bytes=20_000,
        )
        async with producer.transaction() as work:
            sent = [(b, await work.send_batch(TRADES.topic.name, b)) for b in batches]
            await work.flush()
            outputs = [
                {
                    "topic": TRADES.topic.name,
                    "partition": b.partition,
                    "base_offset": future.result().offset,
                    "count": b.count,
                }
                for b, future in sent
            ]
            await self._status(work, upload, index, rows=rows, outputs=outputs)
        upload.rows += rows
        self._remember(upload, symbols, lines.tolist(), outputs)

    async def _status(
        self,
        work: Any,
        upload: Upload,
        index: int,
        *,
        terminal: bool = False,
        rows: int = 0,
        outputs: list[dict[str, Any]] | None = None,
    ) -> None:
        message = {
            "upload_id": upload.upload_id,
            "dataset": TRADES.name,
            "index": index,
            "terminal": terminal,
            "cancelled": False,
            "rows_read": rows,
            "rows_accepted": rows,
            "rows_rejected": 0,
            "rows_filtered": 0,
            "errors": [],
            "outputs": outputs or [],
            "kafka_epoch": 0,
            "on_error": "skip_row",
            "max_reject_ratio": None,
            "replaces": upload.replaces,
            "failure": upload.failure if terminal else None,
            "processed_at": datetime.now(UTC),
        }
        key = upload.upload_id.encode()
        await work.send(STATUS.name, key=key, value=self._statuses.encode(message))

    def _remember(
        self, upload: Upload, symbols: list[str], lines: list[int], outputs: list[dict[str, Any]]
    ) -> None:
        by_partition: dict[int, list[int]] = defaultdict(list)
        for symbol, line in zip(symbols, lines, strict=True):
            by_partition[partition_of_symbol(symbol)].append(line)
        taken: dict[int, int] = defaultdict(int)
        for output in sorted(outputs, key=lambda o: (o["partition"], o["base_offset"])):
            partition = output["partition"]
            for n in range(output["count"]):
                line = by_partition[partition][taken[partition]]
                taken[partition] += 1
                self.records[(partition, output["base_offset"] + n)] = (upload.upload_id, line)
            self.places[upload.upload_id].add((partition, output["base_offset"] + output["count"] - 1))
            self.ends[partition] = max(self.ends[partition], output["base_offset"] + output["count"])


def partition_of_symbol(symbol: str) -> int:
    """Where the trades of a symbol go."""
    return partition_of(f"XNAS:{symbol}".encode(), TRADES.topic.partitions)
