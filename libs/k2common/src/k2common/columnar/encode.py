"""Rows in columns to Avro messages in the registry's framing, without an object per row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2common.columnar.arrow import Column, arrow_schema, type_name, unwrap
from k2common.columnar.pieces import Coded, Piece, fuse, joined
from k2common.columnar.varints import decimals, varints

NULL_BRANCH = b"\x00"
VALUE_BRANCH = b"\x02"
END_OF_BLOCKS = b"\x00"


class RecordEncoder:
    """Encodes rows of one Avro schema, byte for byte as fastavro does.

    A message is a zero byte, the schema id in four bytes, and the Avro record (the wire format of Confluent's
    registry). Columns may be dictionary-encoded; constant columns and those of few values cost little so.
    """

    def __init__(self, schema: Mapping[str, Any], schema_id: int) -> None:
        self.arrow_schema = arrow_schema(schema)
        self._types = [(entry["name"], entry["type"]) for entry in schema["fields"]]
        self._frame = b"\x00" + schema_id.to_bytes(4, "big")

    def pieces(self, rows: pa.RecordBatch) -> list[Piece]:
        """The messages of the rows, not yet put together.

        Raises KeyError when a column is missing, ValueError when a value does not fit its schema.
        """
        pieces: list[Piece] = [self._frame]
        for name, avro_type in self._types:
            pieces.extend(_column(avro_type, rows.column(name), name))
        return fuse(pieces)

    def messages(self, rows: pa.RecordBatch) -> Column:
        """One binary value per row."""
        return joined(self.pieces(rows), rows.num_rows)


def _column(avro_type: Any, array: Any, name: str) -> list[Piece]:
    inner, nullable = unwrap(avro_type)
    if array.null_count and not nullable:
        raise ValueError(f"{name} holds {array.null_count} nulls; its schema allows none")
    if pa.types.is_dictionary(array.type):
        return [_coded(avro_type, array, name)]
    if not nullable:
        return _values(inner, array)
    if not array.null_count:
        return [VALUE_BRANCH, *_values(inner, array)]
    if array.null_count == len(array):
        return [NULL_BRANCH]
    branch = Coded(
        codes=array.is_valid().cast(pa.int64()).to_numpy(),
        values=pa.array([NULL_BRANCH, VALUE_BRANCH], pa.binary()),
    )
    return [branch, *(_where_valid(array, piece) for piece in _values(inner, array))]


def _coded(avro_type: Any, array: Any, name: str) -> Piece:
    values, codes = array.dictionary, array.indices.cast(pa.int64())
    if array.null_count:
        codes = codes.fill_null(len(values))
        values = pa.concat_arrays([values, pa.nulls(1, values.type)])
    values, used = _used(values, codes.to_numpy())
    encoded = joined(fuse(_column(avro_type, values, name)), len(values))
    if len(values) == 1:
        constant: bytes = encoded[0].as_py()
        return constant
    return Coded(codes=used, values=encoded)


def _used(values: Any, codes: npt.NDArray[np.int64]) -> tuple[Any, npt.NDArray[np.int64]]:
    """The values that rows have; one that filtered rows have left behind may not even be encodable."""
    counts = np.bincount(codes, minlength=len(values))
    if counts.all():
        return values, codes
    kept = np.flatnonzero(counts)
    positions = np.zeros(len(values), np.int64)
    positions[kept] = np.arange(len(kept))
    return values.take(pa.array(kept)), positions[codes]


def _where_valid(array: Any, piece: Piece) -> Piece:
    if isinstance(piece, bytes | Coded):
        piece = joined([piece], len(array))
    return pc.if_else(array.is_valid(), piece, pa.scalar(b"", pa.binary()))


def _values(avro_type: Any, array: Any) -> list[Piece]:
    match type_name(avro_type):
        case "string" | "bytes":
            return _texts(array)
        case "enum":
            return [_symbols(avro_type["symbols"], array)]
        case "int" | "date":
            return [varints(_integers(array, pa.int32()))]
        case "long" | "timestamp-micros":
            return [varints(_integers(array, pa.int64()))]
        case "decimal":
            return [decimals(array)]
        case "boolean":
            return [
                Coded(codes=_integers(array, pa.int8()), values=pa.array([b"\x00", b"\x01"], pa.binary()))
            ]
        case "double":
            return [array.fill_null(0.0).view(pa.binary(8)).cast(pa.binary())]
        case "array":
            return [_blocks(array, joined(_texts(array.values), len(array.values)))]
        case "map":
            return [_blocks(array, joined([*_texts(array.keys), *_texts(array.items)], len(array.keys)))]
        case other:
            raise ValueError(f"Avro type {other} has no columnar encoding")


def _texts(array: Any) -> list[Piece]:
    lengths = pc.fill_null(pc.binary_length(array), 0).cast(pa.int64()).to_numpy()
    return [varints(lengths), array.cast(pa.binary())]


def _symbols(symbols: list[str], array: Any) -> Piece:
    codes = pc.index_in(array, pa.array(symbols))
    if codes.null_count > array.null_count:
        unknown = array.filter(pc.and_(codes.is_null(), array.is_valid()))[0]
        raise ValueError(f"{unknown} is none of {', '.join(symbols)}")
    return Coded(
        codes=codes.fill_null(0).cast(pa.int64()).to_numpy(), values=varints(np.arange(len(symbols)))
    )


def _integers(array: Any, width: pa.DataType) -> Any:
    if pa.types.is_boolean(array.type):
        return array.fill_null(value=False).cast(width).cast(pa.int64()).to_numpy()
    return array.cast(width).fill_null(0).cast(pa.int64()).to_numpy()


def _blocks(array: Any, items: Column) -> Column:
    # Avro writes a collection as blocks of count and items, ended by a count of 0; one block is enough.
    counts = np.diff(array.offsets.to_numpy())
    lists = pa.ListArray.from_arrays(array.offsets, items)
    content = pc.binary_join(lists, pa.scalar(b"", pa.binary()))
    full = Coded(codes=(counts > 0).astype(np.int64), values=pa.array([b"", END_OF_BLOCKS], pa.binary()))
    return joined([varints(counts.astype(np.int64)), content, full], len(array))
