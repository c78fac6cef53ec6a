"""Zigzag varints and minimal two's complement, a whole column at a time.

Avro's int and long and the integers of a Kafka record have the same form: zigzag, then seven bits a byte, low
bits first. An Avro decimal is its unscaled value in the fewest big-endian bytes that hold it and a sign bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2common.columnar.arrow import Column

Integers = npt.NDArray[np.int64]
VARINT_LIMITS = np.array([1 << (7 * k) for k in range(1, 10)], np.uint64)


def varints(values: Integers) -> Column:
    """The encoded values as a binary array."""
    zigzag = _zigzag(values)
    sizes = _sizes(zigzag)
    ends = _ends(sizes)
    data = np.empty(int(ends[-1]), np.uint8)
    starts = ends[:-1]
    longest = int(sizes.max(initial=0))
    shortest = int(sizes.min(initial=longest))
    for k in range(longest):
        if k < shortest:
            more = (sizes > k + 1).astype(np.uint8) << 7 if k + 1 >= shortest else np.uint8(0x80)
            data[starts + k] = _seven_bits(zigzag, k) | more
        else:
            rest = np.flatnonzero(sizes > k)
            more = (sizes[rest] > k + 1).astype(np.uint8) << 7
            data[starts[rest] + k] = _seven_bits(zigzag[rest], k) | more
    return binary_array(ends, data)


def decimals(array: Column) -> Column:
    """A decimal128 column as Avro bytes: length, then unscaled value; nulls give unspecified bytes."""
    words = np.frombuffer(memoryview(array.buffers()[1]), "<u8")
    words = words[2 * array.offset : 2 * (array.offset + len(array))].reshape(-1, 2)
    sizes = _decimal_sizes(words)
    ends = _ends(sizes + 1)
    data = np.empty(int(ends[-1]), np.uint8)
    starts = ends[:-1]
    data[starts] = (sizes << 1).astype(np.uint8)
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(-1, 16)
    last = starts + sizes
    longest = int(sizes.max(initial=0))
    shortest = int(sizes.min(initial=longest))
    for k in range(longest):
        if k < shortest:
            data[last - k] = octets[:, k]
        else:
            rest = np.flatnonzero(sizes > k)
            data[last[rest] - k] = octets[rest, k]
    return binary_array(ends, data)


def binary_array(ends: Integers, data: npt.NDArray[np.uint8]) -> Column:
    """A binary array over `data`; value i lies between ends i and i + 1."""
    offsets = pa.py_buffer(ends.astype(np.int32))
    return pa.Array.from_buffers(pa.binary(), len(ends) - 1, [None, offsets, pa.py_buffer(data)])


def _zigzag(values: Integers) -> npt.NDArray[np.uint64]:
    return ((values << 1) ^ (values >> 63)).view(np.uint64)


def _sizes(zigzag: npt.NDArray[np.uint64]) -> Integers:
    top = int(zigzag.max(initial=0))
    sizes = np.ones(len(zigzag), np.int64)
    for limit in VARINT_LIMITS:
        if top < int(limit):
            break
        sizes += zigzag >= limit
    return sizes


def _ends(sizes: Integers) -> Integers:
    ends = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=ends[1:])
    return ends


def _seven_bits(zigzag: npt.NDArray[np.uint64], k: int) -> npt.NDArray[np.uint8]:
    return ((zigzag >> np.uint64(7 * k)) & np.uint64(0x7F)).astype(np.uint8)


def _decimal_sizes(words: npt.NDArray[np.uint64]) -> Integers:
    low, high = words[:, 0], words[:, 1]
    negative = high >> np.uint64(63) == 1
    if negative.any():
        # |v| = ~v + 1 over both words; the carry reaches the high word only where the low one was 0.
        magnitude_low = np.where(negative, ~low + np.uint64(1), low)
        magnitude_high = np.where(negative, ~high + (low == 0).astype(np.uint64), high)
        low, high = magnitude_low, magnitude_high
    sizes = np.ones(len(words), np.int64)
    wide = high > 0
    any_wide = bool(wide.any())
    top = int(low.max(initial=0))
    for k in range(1, 9):
        limit = 1 << (8 * k - 1)
        if not any_wide and top < limit:
            break
        sizes += (low >= np.uint64(limit)) | wide if any_wide else low >= np.uint64(limit)
    if any_wide:
        for k in range(9, 16):
            sizes += high >= np.uint64(1 << (8 * k - 65))
    return sizes
