"""What there is: symbols, instruments, versions, snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from k2common.domain.time import format_datetime
from k2common.engine.scan import Filter, Parameters, Scan, rows_sql
from k2common.engine.text import json_expression
from k2common.iceberg.documents import VersionedSnapshot
from k2common.runtime.queries import Queries
from k2common.versions import format_token

MAX_INSTRUMENTS = 100_000


async def symbols(queries: Queries, scan: Scan | None) -> Sequence[Mapping[str, Any]]:
    """Each symbol of a dataset by venue and source, with its first and last trading date and its rows."""
    if scan is None:
        return []
    parameters = Parameters()
    rows = rows_sql([scan], Filter(), parameters)
    sql = f"""
        SELECT symbol, venue, source, asset_class, CAST(min(trading_date) AS VARCHAR) AS first_date,
            CAST(max(trading_date) AS VARCHAR) AS last_date, count(*) AS rows
        FROM ({rows}) GROUP BY ALL ORDER BY symbol, venue, source, asset_class"""
    found: list[Mapping[str, Any]] = (await queries.table(sql, parameters.values)).to_pylist()
    return found


async def instruments(queries: Queries, scan: Scan | None, wanted: Sequence[str]) -> Sequence[str]:
    """Instruments as JSON texts, by symbol and the day from which they are valid."""
    if scan is None:
        return []
    parameters = Parameters()
    rows = rows_sql([scan], Filter(symbols=wanted), parameters)
    text = f"CAST({json_expression(scan.dataset)} AS VARCHAR) AS text"
    order = "symbol, venue, valid_from, upload_id, line"
    limit = parameters.bind(MAX_INSTRUMENTS)
    sql = f"SELECT {text} FROM ({rows}) ORDER BY {order} LIMIT {limit}"
    found: list[str] = (await queries.table(sql, parameters.values))["text"].to_pylist()
    return found


def version_entry(found: VersionedSnapshot) -> Mapping[str, Any]:
    """A version as the list shows it."""
    version = found.version
    return {
        "version": format_token({version.table: version.number}),
        "table": version.table,
        "number": version.number,
        "committed_at": format_datetime(version.committed_at),
        "snapshot_id": str(found.snapshot_id),
        "offsets": {
            "epoch": version.epoch,
            **{str(partition): offset for partition, offset in sorted(version.offsets.items())},
        },
        "hidden": {upload: str(entry.reason) for upload, entry in sorted(version.hidden.items())},
    }
