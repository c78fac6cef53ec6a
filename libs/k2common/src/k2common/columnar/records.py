"""Single Kafka records of a batch, one object each: for the few that the columnar way refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One message."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def read_records(section: memoryview, base_offset: int) -> Iterator[Record]:
    """The records of an uncompressed records section, in order.

    Raises IndexError when the section is cut.
    """
    at = 0
    while at < len(section):
        length, at = read_varint(section, at)
        end = at + length
        _, at = read_varint(section, at + 1)
        delta, at = read_varint(section, at)
        key, at = _read_bytes(section, at)
        value, at = _read_bytes(section, at)
        headers = tuple(_read_headers(section, at))
        yield Record(offset=base_offset + delta, key=key, value=value, headers=headers)
        at = end


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """The zigzag varint at `at` and the position after it.

    Raises IndexError past the end.
    """
    raw = shift = 0
    while True:
        byte = data[at]
        at += 1
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (raw >> 1) ^ -(raw & 1), at
        shift += 7


def write_varint(value: int) -> bytes:
    """The zigzag varint of a 64-bit integer."""
    raw = ((value << 1) ^ (value >> 63)) & 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while raw > 0x7F:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)
    return bytes(out)


def _read_headers(data: memoryview, at: int) -> Iterator[tuple[str, bytes | None]]:
    count, at = read_varint(data, at)
    for _ in range(count):
        name, at = _read_bytes(data, at)
        value, at = _read_bytes(data, at)
        yield (name or b"").decode("utf-8", "replace"), value


def _read_bytes(data: memoryview, at: int) -> tuple[bytes | None, int]:
    length, at = read_varint(data, at)
    if length < 0:
        return None, at
    if at + length > len(data):
        raise IndexError("the record is cut")
    return bytes(data[at : at + length]), at + length
