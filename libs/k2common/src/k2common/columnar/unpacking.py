"""The codecs that a producer may have packed a record batch with.

Numbers: https://kafka.apache.org/documentation/#recordbatch. Snappy comes in the frames of the Java library,
https://github.com/xerial/snappy-java#compatibility-notes: a header, then blocks, each after its length.
"""

from __future__ import annotations

import struct

import pyarrow as pa

STREAMED = {1: "gzip", 3: "lz4", 4: "zstd"}
SNAPPY = 2
XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_HEADER_BYTES = 16
BLOCK = struct.Struct(">i")


def unpacked(data: memoryview, codec: int) -> memoryview:
    """The bytes that were packed; `codec` is the number in the batch's attributes, not 0.

    Raises ValueError for a codec that Kafka does not have, OSError for broken data.
    """
    if codec == SNAPPY:
        return memoryview(b"".join(_snappy_block(block) for block in _snappy_blocks(data)))
    if codec not in STREAMED:
        raise ValueError(f"there is no compression {codec}")
    stream = pa.CompressedInputStream(pa.BufferReader(pa.py_buffer(data)), STREAMED[codec])
    return memoryview(stream.read())


def _snappy_blocks(data: memoryview) -> list[memoryview]:
    if bytes(data[: len(XERIAL_MAGIC)]) != XERIAL_MAGIC:
        return [data]
    blocks, at = [], XERIAL_HEADER_BYTES
    while at < len(data):
        (length,) = BLOCK.unpack_from(data, at)
        at += BLOCK.size
        blocks.append(data[at : at + length])
        at += length
    return blocks


def _snappy_block(block: memoryview) -> bytes:
    size = shift = 0
    for byte in block:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    plain: bytes = pa.Codec("snappy").decompress(pa.py_buffer(block), decompressed_size=size, asbytes=True)
    return plain
