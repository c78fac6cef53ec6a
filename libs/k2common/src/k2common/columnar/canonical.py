"""One digest for the same rows in the same order, whatever produced them and however they were batched.

Rows are taken in blocks of 65,536 counted from the start; `d = SHA-256(d + block)`, from 32 zero bytes.
A block is its row count (uint32), then per column a tag (the type's name and a newline), a validity byte per
row, and the values: fixed-width ones as they are, strings as int32 lengths and UTF-8, lists and maps as int32
lengths and then their items as columns. All integers are little-endian, dictionaries are expanded, nulls are
zero or empty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

BLOCK_ROWS = 65_536
START = bytes(32)


class Digest:
    """The chained digest of a stream of tables; a short last block is taken in by `finish`."""

    def __init__(self, *, blocks: int = 0, chain: bytes = START) -> None:
        """Begin, or go on after `blocks` whole blocks whose digest was `chain`."""
        self._blocks = blocks
        self._chain = chain
        self._pending: list[pa.Table] = []
        self._pending_rows = 0

    @property
    def blocks(self) -> int:
        """Whole blocks that `chain` covers."""
        return self._blocks

    @property
    def chain(self) -> bytes:
        """The digest at the end of the last whole block, 32 bytes."""
        return self._chain

    @property
    def rows(self) -> int:
        """Rows taken, those of an unfinished block too."""
        return self._blocks * BLOCK_ROWS + self._pending_rows

    def update(self, rows: pa.Table) -> None:
        """Take the next rows; all tables have the same columns in the same order."""
        self._pending.append(rows)
        self._pending_rows += rows.num_rows
        if self._pending_rows < BLOCK_ROWS:
            return
        table = pa.concat_tables(self._pending)
        whole = table.num_rows // BLOCK_ROWS
        for block in range(whole):
            self._chain = _link(self._chain, table.slice(block * BLOCK_ROWS, BLOCK_ROWS))
        self._blocks += whole
        self._pending = [table.slice(whole * BLOCK_ROWS)]
        self._pending_rows = table.num_rows - whole * BLOCK_ROWS

    def finish(self) -> bytes:
        """The digest of all rows taken so far, 32 bytes; more rows may follow as if it had not been asked."""
        if not self._pending_rows:
            return self._chain
        return _link(self._chain, pa.concat_tables(self._pending))


def _link(chain: bytes, block: pa.Table) -> bytes:
    state = hashlib.sha256(chain)
    state.update(np.uint32(block.num_rows).tobytes())
    for column in block.columns:
        for part in _column(pa.concat_arrays(column.chunks)):
            state.update(part)
    return state.digest()


# The stubs do not know the members of nested and dictionary arrays, hence Any.
def _column(array: Any) -> Iterator[bytes]:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        yield from _strings(array.cast(pa.large_string()).fill_null(""), _validity(array))
    elif pa.types.is_map(kind):
        present = array.drop_null()
        ends = present.offsets.to_numpy()
        yield b"map\n" + _validity(array) + _lengths(array, np.diff(ends))
        for items in (present.keys, present.items):
            yield from _column(items.slice(ends[0], ends[-1] - ends[0]))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        present = array.drop_null()
        yield b"list\n" + _validity(array) + _lengths(array, np.diff(present.offsets.to_numpy()))
        yield from _column(present.flatten())
    else:
        yield from _fixed(array)


def _validity(array: pa.Array[Any]) -> bytes:
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False), np.uint8).tobytes()


def _lengths(array: pa.Array[Any], present: npt.NDArray[Any]) -> bytes:
    lengths = np.zeros(len(array), "<i4")
    lengths[array.is_valid().to_numpy(zero_copy_only=False)] = present
    return lengths.tobytes()


def _strings(array: pa.Array[Any], validity: bytes) -> Iterator[bytes]:
    offsets: Any
    _, offsets, text = array.buffers()
    ends = np.frombuffer(memoryview(offsets), "<i8")[array.offset : array.offset + len(array) + 1]
    yield b"string\n" + validity + np.diff(ends).astype("<i4").tobytes()
    yield b"" if text is None else text[int(ends[0]) : int(ends[-1])].to_pybytes()


def _fixed(array: pa.Array[Any]) -> Iterator[bytes]:
    kind = array.type
    name = "timestamp_us" if pa.types.is_timestamp(kind) and kind.unit == "us" else str(kind)
    zero = pa.scalar(0, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else _zero(kind)
    values = array.fill_null(zero)
    if pa.types.is_boolean(kind):
        values = values.cast(pa.uint8())
    width = values.type.bit_width // 8
    data = values.buffers()[1]
    start = values.offset * width
    yield name.encode() + b"\n" + _validity(array)
    yield b"" if data is None else data[start : start + len(values) * width].to_pybytes()


def _zero(kind: pa.DataType) -> pa.Scalar[Any]:
    if pa.types.is_date32(kind):
        return pa.scalar(0, pa.int32()).cast(kind)
    return pa.scalar(0, kind)
