"""From one chunk to the messages that stand for it: pure, and the same on every try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
from k2common.columnar.encode import RecordEncoder
from k2common.columnar.record_batch import EncodedBatch, encode_batches, keys_of
from k2common.errors import RecordError
from k2common.layouts.instruments import InstrumentIndex
from k2common.layouts.model import Layout
from k2common.layouts.parser import Parsed, parse
from k2common.layouts.upload import UploadSpec
from k2common.observability.tracing import Carried
from k2common.schemas.datasets import DATASETS, REJECTS, Dataset

UNPARSEABLE = "CHUNK_UNPARSEABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A message of ingest.chunks with its upload as the layouts know it."""

    message: Mapping[str, Any]
    upload: UploadSpec

    @property
    def payload(self) -> bytes:
        """The records, unpacked.

        Raises RecordError when they cannot be unpacked to their stated length.
        """
        packed, length = self.message["payload"], self.message["length"]
        if not length:
            return b""
        try:
            data: bytes = pa.decompress(packed, decompressed_size=length, codec="zstd", asbytes=True)
        except (OSError, pa.ArrowException) as error:
            raise RecordError(f"the chunk cannot be unpacked: {error}") from error
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Batches for one topic."""

    topic: str
    batches: Sequence[EncodedBatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """What is to be published for a chunk; `trace` is the span that made it."""

    chunk: Chunk
    outputs: Sequence[Output] = ()
    rows_read: int = 0
    rows_accepted: int = 0
    rows_rejected: int = 0
    rows_filtered: int = 0
    errors: Mapping[tuple[str | None, str], int] = field(default_factory=dict)
    failure: str | None = None
    trace: Carried = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoders:
    """An encoder per dataset, and how large batches become."""

    by_dataset: Mapping[str, RecordEncoder]
    batch_bytes: int

    def output(self, dataset: Dataset, rows: pa.RecordBatch, *, now: datetime) -> Output:
        """The rows as batches of the dataset's topic."""
        batches = encode_batches(
            rows,
            self.by_dataset[dataset.name],
            keys=keys_of(rows, dataset.key),
            partitions=dataset.topic.partitions,
            timestamp_ms=int(now.timestamp() * 1000),
            max_bytes=self.batch_bytes,
        )
        return Output(topic=dataset.topic.name, batches=batches)


def process(
    chunk: Chunk, *, encoders: Encoders, instruments: InstrumentIndex | None, now: datetime
) -> Processed:
    """Parse and encode a chunk; one that cannot be read at all is a failure of its upload."""
    if chunk.message["terminal"]:
        return Processed(chunk=chunk, failure=chunk.message["failure"])
    try:
        parsed = _parsed(chunk, instruments)
    except RecordError:
        return Processed(chunk=chunk, failure=UNPARSEABLE)
    outputs = [
        encoders.output(dataset, rows, now=now)
        for dataset, rows in (
            (DATASETS[chunk.upload.dataset], parsed.rows),
            (REJECTS, parsed.rejects),
        )
        if rows.num_rows
    ]
    return Processed(
        chunk=chunk,
        outputs=outputs,
        rows_read=parsed.rows_read,
        rows_accepted=parsed.rows_accepted,
        rows_rejected=parsed.rows_rejected,
        rows_filtered=parsed.rows_filtered,
        errors=parsed.errors,
    )


def status(
    processed: Processed, places: Sequence[Mapping[str, Any]], *, epoch: int, now: datetime
) -> dict[str, Any]:
    """The message of ingest.status for a chunk whose batches lie at `places`."""
    message, upload = processed.chunk.message, processed.chunk.upload
    return {
        "upload_id": upload.upload_id,
        "dataset": upload.dataset,
        "index": message["index"],
        "terminal": message["terminal"],
        "cancelled": message["cancelled"],
        "rows_read": processed.rows_read,
        "rows_accepted": processed.rows_accepted,
        "rows_rejected": processed.rows_rejected,
        "rows_filtered": processed.rows_filtered,
        "errors": [
            {"column": column, "code": code, "count": count}
            for (column, code), count in processed.errors.items()
        ],
        "outputs": list(places),
        "kafka_epoch": epoch,
        "on_error": upload.on_error,
        "max_reject_ratio": upload.max_reject_ratio,
        "replaces": upload.replaces,
        "failure": processed.failure,
        "processed_at": now,
    }


def _parsed(chunk: Chunk, instruments: InstrumentIndex | None) -> Parsed:
    return parse(
        chunk.payload,
        layout=Layout.parse(chunk.upload.layout_json),
        header=chunk.message["header"],
        first_byte=chunk.message["first_byte"],
        first_line=chunk.message["first_line"],
        spec=chunk.upload,
        instruments=instruments,
    )
