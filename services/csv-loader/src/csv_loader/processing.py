"""From one chunk to the messages that stand for it: pure, and the same on every try."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Any, Self

import pyarrow as pa
from k2common.columnar.encode import RecordEncoder
from k2common.columnar.record_batch import EncodedBatch, encode_batches, keys_of
from k2common.errors import RecordError
from k2common.layouts.instruments import InstrumentIndex
from k2common.layouts.model import Layout
from k2common.layouts.parser import ParsedChunk, UnparseableError, parse
from k2common.layouts.upload import UploadSpec
from k2common.observability.tracing import Carried
from k2common.schemas.datasets import DATASETS, MARKET_DATASETS, REJECTS, Dataset

UNPARSEABLE = "CHUNK_UNPARSEABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A message of ingest.chunks with its upload as the layouts know it."""

    message: Mapping[str, Any]
    upload: UploadSpec
    place: tuple[int, int] | None = None
    """Partition and offset of ingest.chunks; None for an end that no message states."""

    @classmethod
    def from_avro(cls, message: Mapping[str, Any], *, place: tuple[int, int] | None = None) -> Self:
        """The chunk of a decoded message that lies at `place`.

        Raises ValueError for one of a dataset that there is not.
        """
        upload = UploadSpec.from_avro(message["upload"])
        if upload.dataset not in MARKET_DATASETS:
            raise ValueError(f"there is no dataset {upload.dataset!r}")
        return cls(message=message, upload=upload, place=place)

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
    failure_reason: str | None = None
    failure_cause: str | None = None
    """The kind of the error and the line of code that raised it: what a log may hold."""
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
        return _processed(chunk, encoders, instruments, now)
    except Exception as error:  # noqa: BLE001 - pure code over a stranger's data: the fault is this chunk's
        own = error if isinstance(error, RecordError) else UnparseableError.from_error(error)
        return unparseable(chunk, reason=str(own), cause=_cause(error))


def unparseable(chunk: Chunk, *, reason: str, cause: str) -> Processed:
    """Return the failure of a chunk's upload; `reason` is for its owner, `cause` for the log."""
    return Processed(chunk=chunk, failure=UNPARSEABLE, failure_reason=reason, failure_cause=cause)


def _cause(error: BaseException) -> str:
    raised = error.__cause__ or error
    frame = traceback.extract_tb(raised.__traceback__)[-1]
    return f"{type(raised).__name__} at {PurePath(frame.filename).name}:{frame.lineno}"


def _processed(
    chunk: Chunk, encoders: Encoders, instruments: InstrumentIndex | None, now: datetime
) -> Processed:
    parsed = _parsed(chunk, instruments)
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
    partition, offset = processed.chunk.place or (None, None)
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
        "failure_reason": processed.failure_reason,
        "processed_at": now,
        "chunk_partition": partition,
        "chunk_offset": offset,
    }


def _parsed(chunk: Chunk, instruments: InstrumentIndex | None) -> ParsedChunk:
    return parse(
        chunk.payload,
        layout=Layout.accepted(chunk.upload.layout_json),
        header=chunk.message["header"],
        first_byte=chunk.message["first_byte"],
        first_line=chunk.message["first_line"],
        spec=chunk.upload,
        instruments=instruments,
    )
