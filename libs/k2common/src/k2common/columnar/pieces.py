"""Pieces of encoded rows: what is the same in every row is kept once until the rows are put together.

A piece is bytes (the same in each row), Coded (a few distinct values) or a binary array (one value per row).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2common.columnar.arrow import Column

FUSE_LIMIT = 4096
"""Combinations of two coded pieces up to which they become one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """Value `values[codes[i]]` in row i."""

    codes: npt.NDArray[np.int64]
    values: Column


Piece: TypeAlias = "bytes | Coded | Column"


def fuse(pieces: Sequence[Piece]) -> list[Piece]:
    """Fewer pieces with the same rows: adjacent ones that are constant or of few values become one."""
    fused: list[Piece] = []
    for piece in pieces:
        merged = _merged(fused[-1], piece) if fused else None
        if merged is None:
            fused.append(piece)
        else:
            fused[-1] = merged
    return fused


def sizes(piece: Piece) -> npt.NDArray[np.int64] | int:
    """Bytes of the piece in each row, or in every row."""
    if isinstance(piece, bytes):
        return len(piece)
    if isinstance(piece, Coded):
        return _lengths(piece.values)[piece.codes]
    return _lengths(piece)


def joined(pieces: Sequence[Piece], rows: int) -> Column:
    """The rows: a binary array of the pieces, one after the other. Null values count as empty."""
    parts: list[Any] = [_expanded(piece) for piece in pieces]
    if not any(isinstance(part, pa.Array) for part in parts):
        constant = b"".join(piece for piece in pieces if isinstance(piece, bytes))
        return pa.repeat(pa.scalar(constant, pa.binary()), rows)
    separator = pa.scalar(b"", pa.binary())
    return pc.binary_join_element_wise(*parts, separator, null_handling="replace", null_replacement="")


def _merged(left: Piece, right: Piece) -> Piece | None:
    if isinstance(left, bytes) and isinstance(right, bytes):
        return left + right
    if isinstance(left, bytes) and isinstance(right, Coded):
        return Coded(codes=right.codes, values=joined([left, right.values], len(right.values)))
    if isinstance(left, Coded) and isinstance(right, bytes):
        return Coded(codes=left.codes, values=joined([left.values, right], len(left.values)))
    if isinstance(left, Coded) and isinstance(right, Coded):
        return _product(left, right)
    return None


def _product(left: Coded, right: Coded) -> Coded | None:
    width = len(right.values)
    if len(left.values) * width > FUSE_LIMIT:
        return None
    codes = left.codes * width + right.codes
    used = np.flatnonzero(np.bincount(codes, minlength=len(left.values) * width))
    position = np.zeros(len(left.values) * width, np.int64)
    position[used] = np.arange(len(used))
    values = joined([left.values.take(_indices(used // width)), right.values.take(_indices(used % width))], 0)
    return Coded(codes=position[codes], values=values)


def _indices(codes: npt.NDArray[np.int64]) -> Column:
    return pa.array(codes)


def _expanded(piece: Piece) -> Any:
    if isinstance(piece, bytes):
        return pa.scalar(piece, pa.binary())
    if isinstance(piece, Coded):
        return piece.values.take(_indices(piece.codes))
    return piece


def _lengths(array: Column) -> npt.NDArray[np.int64]:
    lengths = pc.fill_null(pc.binary_length(array), 0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64)
