"""What a loader writes, by hand, so that it may be wrong."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from k2common.columnar.arrow import arrow_schema
from k2common.columnar.encode import RecordEncoder
from k2common.kafka.producer import TransactionalProducer
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import STATUS, TRADES, avro_schema
from k2common.settings.kafka import KafkaSettings
from k2common.settings.registry import RegistrySettings
from k2common.testing.iceberg import trade_rows

TOPIC = TRADES.topic.name
SCHEMA = avro_schema("trades")
WIDER: Mapping[str, Any] = {
    **SCHEMA,
    "fields": [
        *SCHEMA["fields"],
        {"name": "note", "type": ["null", "string"], "default": None, "doc": "A note."},
    ],
}


async def next_schema_id(settings: RegistrySettings, subject: str) -> int:
    """The id that the registry will give to the next new schema."""
    probe = {"type": "record", "name": "Probe", "fields": [], "doc": subject}
    return await SchemaRegistry(settings).ensure(f"{subject}-value", probe) + 1


def message(
    upload_id: str, line: int, *, schema_id: int, schema: Mapping[str, Any] = SCHEMA, **fields: Any
) -> bytes:
    """One trade, framed with any schema id."""
    rows = trade_rows(line, 1, upload=upload_id).to_pylist()
    row = {**rows[0], "line": line, **fields}
    names = [field["name"] for field in schema["fields"]]
    batch = pa.RecordBatch.from_pylist([{name: row.get(name) for name in names}], schema=arrow_schema(schema))
    value: bytes = RecordEncoder(schema, schema_id).messages(batch)[0].as_py()
    return value


def many(upload_id: str, count: int, *, schema_id: int) -> list[bytes]:
    """So many trades, with lines from 2 on."""
    rows = trade_rows(0, count, upload=upload_id).select([field["name"] for field in SCHEMA["fields"]])
    encoded = RecordEncoder(SCHEMA, schema_id).messages(rows.combine_chunks().to_batches()[0])
    values: list[bytes] = encoded.to_pylist()
    return values


def statuses(upload_id: str, outputs: Sequence[Mapping[str, Any]], *, epoch: int = 0) -> list[dict[str, Any]]:
    """The status of an upload's only chunk, and of its end."""
    rows = sum(output["count"] for output in outputs)
    known = {
        "upload_id": upload_id,
        "dataset": "trades",
        "index": 0,
        "terminal": False,
        "cancelled": False,
        "rows_read": rows,
        "rows_accepted": rows,
        "rows_rejected": 0,
        "rows_filtered": 0,
        "errors": [],
        "outputs": list(outputs),
        "kafka_epoch": epoch,
        "on_error": "skip_row",
        "max_reject_ratio": None,
        "replaces": None,
        "failure": None,
        "processed_at": datetime.now(UTC),
    }
    end = {"index": 1, "terminal": True, "outputs": [], "rows_read": 0, "rows_accepted": 0}
    return [known, {**known, **end}]


async def write(
    settings: KafkaSettings,
    registry: RegistrySettings,
    upload_id: str,
    values: Sequence[bytes | None],
    *,
    partition: int = 0,
    ended: bool = True,
) -> int:
    """The values and the statuses of the upload that they are, in one transaction; the first one's offset."""
    codec = await MessageCodec.open(SchemaRegistry(registry), STATUS)
    async with TransactionalProducer(settings, "test-loader") as producer, producer.transaction() as work:
        sent = [await work.send(TOPIC, value=value, key=b"k", partition=partition) for value in values]
        await work.flush()
        first = int((await sent[0]).offset)
        output = {"topic": TOPIC, "partition": partition, "base_offset": first, "count": len(values)}
        for status in statuses(upload_id, [output], epoch=settings.epoch)[: 2 if ended else 1]:
            await work.send(STATUS.name, key=upload_id.encode(), value=codec.encode(status), partition=0)
    return first
