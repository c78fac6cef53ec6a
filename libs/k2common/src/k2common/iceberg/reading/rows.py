"""The rows of a planned version in memory, for tables that are small beside the market's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.table import DataScan

from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import AWAY, Catalog, load_table
from k2common.iceberg.files.verification import FileVerifier, faults
from k2common.iceberg.reading.plan import Plan
from k2common.versions.version import Version

RULE_COLUMNS = ("kafka_epoch", "kafka_partition", "kafka_offset", "upload_id")
NO_EPOCH = 2**31 - 1


def read_rows(catalog: Catalog, plan: Plan, columns: Sequence[str]) -> pa.Table:
    """`columns` of every row that the plan's versions give; those that no file has are left out.

    Raises DataDamaged, DataMissing, and TransientError when the warehouse does not answer.
    """
    io = load_file_io(dict(catalog.properties), plan.version.table)
    wanted = list(dict.fromkeys([*columns, *RULE_COLUMNS]))
    tables: list[pa.Table] = []
    try:
        plan.verify(plan.paths)
        tables += [_read(io, path, columns, plan) for path in plan.all_visible]
        for path in plan.straddling:
            rows = _read(io, path, wanted, plan)
            wanted_rows = shown(rows, plan.version)
            if plan.without is not None:
                wanted_rows = pc.and_(wanted_rows, pc.invert(shown(rows, plan.without)))
            kept = [name for name in columns if name in rows.column_names]
            tables.append(rows.filter(wanted_rows).select(kept))
    except AWAY as error:
        raise TransientError(f"{plan.version.table}: the warehouse cannot be read") from error
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def _read(io: FileIO, path: str, columns: Sequence[str], plan: Plan) -> pa.Table:
    with faults(plan.version.table, path, plan.version.number), io.new_input(path).open() as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        # A file that was written before a column was added lacks it.
        return parquet.read(columns=[name for name in columns if name in parquet.schema_arrow.names])


def verified_rows(scan: DataScan, verifier: FileVerifier, *, table: str) -> pa.Table:
    """The rows that the library's scan gives, once all its files are verified.

    Raises DataDamaged, DataMissing, and what the store raises.
    """
    with faults(table, "a manifest"):
        paths = [task.file.file_path for task in scan.plan_files()]
    verifier.verify(paths, io=scan.io, table=table)
    with faults(table, "one of its files"):
        return scan.to_arrow()


def scan_rows(
    catalog: Catalog, table: str, condition: BooleanExpression, *, verifier: FileVerifier | None = None
) -> pa.Table:
    """All columns of the rows of the head that meet the condition, for a table without a visibility rule.

    Raises DataDamaged, DataMissing, and TransientError when the catalogue or the warehouse does not answer.
    """
    loaded = load_table(catalog, table)
    try:
        return verified_rows(loaded.scan(row_filter=condition), verifier or FileVerifier(), table=table)
    except AWAY as error:
        raise TransientError(f"{table}: the warehouse cannot be read") from error


def shown(rows: pa.Table, version: Version) -> Any:
    """A mask of the rows that belong to the version: `Version.shows`, a column at a time.

    Rows of another engine that have no place in Kafka belong to none.
    """
    ends = np.zeros(1 + max([*version.offsets, 0]), np.int64)
    for partition, offset in version.offsets.items():
        ends[partition] = offset
    epochs = pc.fill_null(rows["kafka_epoch"], NO_EPOCH).to_numpy()
    partitions, offsets = (pc.fill_null(rows[name], 0).to_numpy() for name in RULE_COLUMNS[1:3])
    known = np.minimum(partitions, len(ends) - 1)
    below = (partitions < len(ends)) & (offsets < ends[known])
    visible = (epochs < version.epoch) | ((epochs == version.epoch) & below)
    hidden = pc.is_in(rows["upload_id"], pa.array(sorted(version.hidden), pa.string()))
    return pc.and_(pa.chunked_array([pa.array(visible)]), pc.invert(hidden))
