"""Rows that the layout's own rule leaves out: counted, and looked at no further."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2common.layouts.reading import Cells
from k2common.layouts.records import Records


def without_filtered(cells: Cells, where: Mapping[str, Sequence[str]]) -> tuple[Cells, int]:
    """The records in which every column of `where` has one of its values, and how many have not.

    A record that could not be read has no values to judge; it stays, and is refused.
    """
    kept = np.ones(cells.rows, bool)
    for name, values in where.items():
        hit = pc.is_in(cells.columns[name], value_set=pa.array(values, pa.string()))
        kept &= np.asarray(hit.to_numpy(zero_copy_only=False), bool)
    kept |= cells.faults.rows
    filtered = cells.rows - int(kept.sum())
    if not filtered:
        return cells, 0
    records = cells.records
    mask = pa.array(kept)
    return Cells(
        data=cells.data,
        records=Records(starts=records.starts[kept], ends=records.ends[kept], lines=records.lines[kept]),
        columns={name: column.filter(mask) for name, column in cells.columns.items()},
        faults=cells.faults.of(kept),
    ), filtered
