"""Chunks as a gateway publishes them."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from csv_loader.partition import LoaderDependencies
from k2common.kafka.consumer import MessageReader
from k2common.layouts.catalogue import layout_named
from k2common.layouts.upload import UploadSpec
from k2common.schemas.datasets import STATUS


def chunk(upload_id: str, dataset: str) -> dict[str, Any]:
    payload = b"1700000000000000000,A,X,1,1\n"
    upload = UploadSpec(
        upload_id=upload_id,
        dataset=dataset,
        layout="k2",
        layout_json=layout_named("k2", dataset="trades").canonical_json,
        source="s",
        bytes=len(payload),
        sha256="",
        received_at=datetime.now(UTC),
    )
    return {
        "upload": upload.to_avro(),
        "index": 0,
        "terminal": False,
        "cancelled": False,
        "first_line": 2,
        "first_byte": 40,
        "header": "ts_event_ns,symbol,venue,price,size",
        "length": len(payload),
        "payload": pa.compress(payload, codec="zstd", asbytes=True),
    }


async def statuses_of(tools: LoaderDependencies, uploads: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    places = {(STATUS.name, partition): None for partition in range(STATUS.partitions)}
    async with MessageReader(tools.settings.kafka, places) as reader:
        while set(found) != set(uploads):
            for records in (await reader.fetch(limit=500, wait_seconds=0.2)).values():
                for record in records:
                    status = await tools.statuses.decode(record.value)
                    if status["upload_id"] in uploads:
                        found[status["upload_id"]] = status
    return found
