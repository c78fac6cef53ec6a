"""Kafka record batches, format 2, built from columns and taken apart as whole.

Layout: https://kafka.apache.org/documentation/#recordbatch. A batch's records section is built here; producer
id, epoch and sequence are only known when the batch is sent and are filled in by `stamp`, with the checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2common.columnar.arrow import Column
from k2common.columnar.encode import RecordEncoder
from k2common.columnar.partition import partition_of
from k2common.columnar.pieces import Coded, Piece, fuse, joined, sizes
from k2common.columnar.unpacking import unpacked
from k2common.columnar.varints import varints

PREFIX = struct.Struct(">qi")
"""Base offset, and the bytes that follow this prefix."""
HEADER = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, first and last timestamp,
producer id, producer epoch, base sequence, count."""
CHECKED_FROM = 21
CRC_AT = 17
PRODUCER_AT = 43
MAGIC = 2
COMPRESSION = 0x07
TRANSACTIONAL = 0x10
CONTROL = 0x20
ZSTD = 4
ZSTD_LEVEL = 1
ZSTD_SIZE_BYTES = (0, 2, 4, 8)
UNKNOWN_RATIO = 8
"""So many times its packed size a batch is taken for that does not tell its own."""
RECORD_START = b"\x00\x00"
"""A record's attributes and its timestamp delta, both zero."""
NO_HEADERS = b"\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedBatch:
    """A whole batch for `partition` that lacks only what `stamp` fills in."""

    partition: int
    count: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedBatch:
    """A whole batch as the broker sent it; records below offset `wanted_from` are not asked for."""

    partition: int
    base_offset: int
    count: int
    wanted_from: int
    payload: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHeader:
    """What the header of a batch says."""

    base_offset: int
    next_offset: int
    attributes: int
    producer_id: int
    count: int
    crc: int

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)


def keys_of(rows: pa.RecordBatch, columns: Sequence[str]) -> Column:
    """The message keys, the columns joined by a colon, dictionary-encoded."""
    pieces: list[Piece] = []
    for column in columns:
        array: Any = rows.column(column)
        coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        values = coded.dictionary.cast(pa.binary())
        pieces += [b":", Coded(codes=coded.indices.cast(pa.int64()).to_numpy(), values=values)]
    fused = fuse(pieces[1:])
    if len(fused) == 1 and isinstance(fused[0], Coded):
        indices = pa.array(fused[0].codes, pa.int32())
        return pa.DictionaryArray.from_arrays(indices, fused[0].values)
    return joined(fused, rows.num_rows).dictionary_encode()


def encode_batches(
    rows: pa.RecordBatch,
    encoder: RecordEncoder,
    *,
    keys: Any,
    partitions: int,
    timestamp_ms: int,
    max_bytes: int,
) -> list[EncodedBatch]:
    """Batches by partition; rows of one key stay in order. A batch holds about `max_bytes` before zstd.

    `keys` is the dictionary array that `keys_of` gives; every record has its key and the time `timestamp_ms`.
    """
    if not rows.num_rows:
        return []
    names = [value.as_py() for value in keys.dictionary]
    of_key = np.array([partition_of(name, partitions) for name in names], np.int64)
    codes = keys.indices.cast(pa.int64()).to_numpy()
    key_piece = Coded(codes=codes, values=joined([_lengths_of(names), keys.dictionary], len(names)))
    value = encoder.pieces(rows)
    value_sizes = _total(value, rows.num_rows)
    order, groups = _grouped(of_key[codes], value_sizes, max_bytes)
    deltas = np.empty(rows.num_rows, np.int64)
    deltas[order] = np.concatenate([np.arange(end - start) for _, start, end in groups])
    body = fuse([RECORD_START, varints(deltas), key_piece, varints(value_sizes), *value, NO_HEADERS])
    records = joined([varints(_total(body, rows.num_rows)), *body], rows.num_rows)
    if len(groups) > 1 and (np.diff(order) != 1).any():
        records = records.take(_indices(order))
    return [
        EncodedBatch(
            partition=partition,
            count=end - start,
            payload=_batch(_section(records, start, end), end - start, timestamp_ms),
        )
        for partition, start, end in groups
    ]


def stamp(batch: EncodedBatch, *, producer_id: int, epoch: int, sequence: int, transactional: bool) -> bytes:
    """The batch as it goes to the broker."""
    payload = bytearray(batch.payload)
    struct.pack_into(">qhi", payload, PRODUCER_AT, producer_id, epoch, sequence)
    if transactional:
        payload[CHECKED_FROM + 1] |= TRANSACTIONAL
    crc = google_crc32c.value(bytes(memoryview(payload)[CHECKED_FROM:]))
    struct.pack_into(">I", payload, CRC_AT, crc)
    return bytes(payload)


def split(data: memoryview) -> Iterator[tuple[BatchHeader, memoryview]]:
    """The whole batches of a fetch answer; a cut last one is left out.

    Raises ValueError when a batch has another format or fails its checksum.
    """
    at = 0
    while at + HEADER.size <= len(data):
        end = at + PREFIX.size + PREFIX.unpack_from(data, at)[1]
        if end > len(data):
            return
        batch = data[at:end]
        header = read_header(batch)
        if google_crc32c.value(bytes(batch[CHECKED_FROM:])) != header.crc:
            raise ValueError(f"the batch at offset {header.base_offset} fails its checksum")
        yield header, batch
        at = end


def read_header(batch: memoryview) -> BatchHeader:
    """The header of a batch of format 2.

    Raises ValueError for another format.
    """
    base, _, _, magic, crc, attributes, last, _, _, producer, _, _, count = HEADER.unpack_from(batch)
    if magic != MAGIC:
        raise ValueError(f"the batch at offset {base} has format {magic}, not {MAGIC}")
    return BatchHeader(
        base_offset=base,
        next_offset=base + last + 1,
        attributes=attributes,
        producer_id=producer,
        count=count,
        crc=crc,
    )


def written_seconds(batch: memoryview) -> float:
    """When the first record of a batch was written, in Unix seconds, as its header says."""
    milliseconds: int = HEADER.unpack_from(batch)[7]
    return milliseconds / 1000


def records_section(batch: memoryview) -> memoryview:
    """The uncompressed records of a batch.

    Raises ValueError for a codec that Kafka does not have, OSError for broken data.
    """
    codec = read_header(batch).attributes & COMPRESSION
    section = batch[HEADER.size :]
    return unpacked(section, codec) if codec else section


def unpacked_bytes(batch: memoryview) -> int:
    """How much memory the records of a batch take, by what the batch itself says; nothing is unpacked."""
    section = batch[HEADER.size :]
    if not read_header(batch).attributes & COMPRESSION:
        return len(section)
    return _frame_content_size(section) or UNKNOWN_RATIO * len(section)


def _frame_content_size(frame: memoryview) -> int:
    # https://datatracker.ietf.org/doc/html/rfc8878#section-3.1.1.1; other codecs' first bytes differ.
    if bytes(frame[:4]) != b"\x28\xb5\x2f\xfd":
        return 0
    descriptor = frame[4]
    single = descriptor >> 5 & 1
    length = ZSTD_SIZE_BYTES[descriptor >> 6] or single
    at = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(frame[at : at + length], "little")
    return size + 256 if length == 2 else size


def _indices(order: npt.NDArray[np.int64]) -> Column:
    return pa.array(order)


def _lengths_of(names: Sequence[bytes]) -> Column:
    return varints(np.array([len(name) for name in names], np.int64))


def _total(pieces: Sequence[Piece], rows: int) -> npt.NDArray[np.int64]:
    total = np.zeros(rows, np.int64)
    for piece in pieces:
        total += sizes(piece)
    return total


def _grouped(
    partitions: npt.NDArray[np.int64], row_sizes: npt.NDArray[np.int64], max_bytes: int
) -> tuple[npt.NDArray[np.int64], list[tuple[int, int, int]]]:
    order = np.argsort(partitions, kind="stable")
    filled = np.cumsum(row_sizes[order])
    ordered = partitions[order]
    edges = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(order)]
    groups: list[tuple[int, int, int]] = []
    for start, end in pairwise(edges):
        base = filled[start] - row_sizes[order[start]]
        bins = (filled[start:end] - base - 1) // max_bytes
        cuts = [start, *(np.flatnonzero(np.diff(bins)) + start + 1).tolist(), end]
        partition = int(ordered[start])
        groups += [(partition, first, last) for first, last in pairwise(cuts)]
    return order, groups


def _section(records: Any, start: int, end: int) -> Any:
    _, offsets, data = records.buffers()
    ends = np.frombuffer(memoryview(offsets), np.int32)[records.offset :]
    return data[int(ends[start]) : int(ends[end])]


def _batch(section: Any, count: int, timestamp_ms: int) -> bytes:
    compressed: bytes = pa.Codec("zstd", compression_level=ZSTD_LEVEL).compress(section, asbytes=True)
    length = HEADER.size - PREFIX.size + len(compressed)
    times = (timestamp_ms, timestamp_ms)
    header = HEADER.pack(0, length, -1, MAGIC, 0, ZSTD, count - 1, *times, -1, -1, -1, count)
    return header + compressed
