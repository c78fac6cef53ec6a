"""What is missing in a range, as SQL over the rows and the events of their sequence numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from k2common.engine.differences import plain_rows_sql
from k2common.engine.scan import Filter, Parameters, Scan, rows_sql
from k2common.iceberg.reading.plan import Plan

MISSING_KINDS = "'small_gap', 'large_gap'"
KEY = "venue, symbol, source"
KEY_DAY = f"{KEY}, trading_date"


def keys_sql(scan: Scan, wanted: Filter, parameters: Parameters) -> str:
    """The keys with rows in the range, and their first and last row."""
    order = "(ts_event_ns, upload_id, line)"
    place = "{'ts_event_ns': ts_event_ns, 'upload_id': upload_id, 'line': line}"
    return f"""
        SELECT {KEY}, any_value(asset_class) = 'crypto' AS always,
            arg_min({place}, {order}) AS first, arg_max({place}, {order}) AS last
        FROM ({rows_sql([scan], wanted, parameters)}) GROUP BY {KEY} ORDER BY {KEY}"""


def silences_sql(scan: Scan, wanted: Filter, parameters: Parameters, *, least_ns: int, limit: int) -> str:
    """Pairs of rows of a key with so long a time between them and no other row."""
    return f"""
        SELECT * FROM (
            SELECT {KEY}, ts_event_ns, upload_id, line, lag(ts_event_ns) OVER w AS before_ns,
                lag(upload_id) OVER w AS before_upload, lag(line) OVER w AS before_line
            FROM ({rows_sql([scan], wanted, parameters)})
            WINDOW w AS (PARTITION BY {KEY} ORDER BY ts_event_ns, upload_id, line))
        WHERE ts_event_ns - before_ns >= {parameters.bind(least_ns)}
        ORDER BY {KEY}, ts_event_ns LIMIT {parameters.bind(limit)}"""


def ingested_sql(scan: Scan, wanted: Filter, parameters: Parameters) -> str:
    """The trading dates of each venue and source that have rows."""
    rows = rows_sql([scan], wanted, parameters)
    return f"SELECT DISTINCT venue, source, trading_date FROM ({rows})"


def rejects_sql(plan: Plan, uploads: Sequence[str], parameters: Parameters) -> str:
    """Lines of the rejected records of these uploads."""
    rows = plain_rows_sql(plan, parameters)
    listed = parameters.bind(list(uploads))
    return f"""
        SELECT upload_id, list(line ORDER BY line) AS lines FROM ({rows})
        WHERE upload_id IN (SELECT unnest({listed})) GROUP BY upload_id"""


def events_sql(plan: Plan, wanted: Filter, parameters: Parameters, *, dataset: str, version: int) -> str:
    """Events up to a version of the dataset that still hold: a day that was followed again restarts.

    `missing` is how many numbers of a gap have not come since; other kinds have none.
    """
    bind = parameters.bind
    conditions = [f"dataset = {bind(dataset)}", f"version <= {bind(version)}"]
    for column, values in (("symbol", wanted.symbols), ("venue", wanted.venues)):
        if values:
            conditions.append(f"{column} IN (SELECT unnest({bind(list(values))}))")
    if wanted.source is not None:
        conditions.append(f"source = {bind(wanted.source)}")
    return f"""
        WITH known AS (
            SELECT * FROM ({plain_rows_sql(plan, parameters)}) WHERE {" AND ".join(conditions)}),
        marks AS (
            SELECT {KEY_DAY}, max(number) AS mark FROM known WHERE kind = 'rescanned' GROUP BY {KEY_DAY}),
        live AS (
            SELECT known.* FROM known LEFT JOIN marks USING ({KEY_DAY}) WHERE number > coalesce(mark, -1)),
        healed AS (
            SELECT gap, sum(count)::BIGINT AS came FROM live WHERE kind = 'healed' GROUP BY gap)
        SELECT live.*, CASE WHEN kind IN ({MISSING_KINDS}) THEN live.count - coalesce(came, 0) END AS missing
        FROM live LEFT JOIN healed ON live.number = healed.gap"""


def breaks_sql(
    plan: Plan,
    wanted: Filter,
    parameters: Parameters,
    *,
    dataset: str,
    version: int,
    healed: bool,
    limit: int,
) -> str:
    """The gaps of the sequence that lie in the range."""
    events = events_sql(plan, wanted, parameters, dataset=dataset, version=version)
    bind = parameters.bind
    conditions = [f"kind IN ({MISSING_KINDS})"]
    if not healed:
        conditions.append("missing > 0")
    if wanted.start_ns is not None:
        conditions.append(f"ts_event_ns >= {bind(wanted.start_ns)}")
    if wanted.end_ns is not None:
        conditions.append(f"least(start_ns, ts_event_ns) < {bind(wanted.end_ns)}")
    if wanted.trading_date is not None:
        conditions.append(f"trading_date = {bind(wanted.trading_date)}::DATE")
    return f"""
        SELECT * FROM ({events}) WHERE {" AND ".join(conditions)} ORDER BY number LIMIT {bind(limit)}"""


def condition_sql(scan: Scan, wanted: Filter, parameters: Parameters, columns: frozenset[str]) -> str:
    """What each trading date has."""
    rows = rows_sql([scan], wanted, parameters)
    unsequenced = "count(*) FILTER (sequence IS NULL)" if "sequence" in columns else "NULL::BIGINT"
    flags = ", ".join(
        f"count(*) FILTER (flags & {bit} <> 0) AS {name}" if "flags" in columns else f"NULL::BIGINT AS {name}"
        for name, bit in FLAGS.items()
    )
    return f"""
        SELECT trading_date, count(*) AS rows, count(DISTINCT (venue, symbol)) AS symbols,
            list(DISTINCT venue) AS venues, bool_or(asset_class = 'crypto') AS always,
            list(DISTINCT upload_id ORDER BY upload_id) AS uploads, max(ts_ingest) AS last_ingested,
            {unsequenced} AS without_sequence, {flags}
        FROM ({rows}) GROUP BY trading_date ORDER BY trading_date"""


FLAGS = {
    "no_event_time": 1,
    "received_before_event": 2,
    "crossed": 4,
    "locked": 8,
    "one_sided": 16,
    "off_market": 32,
}
"""Bits of the column `flags`."""


def diff_sql(parts: Mapping[str, Scan], wanted: Filter, parameters: Parameters) -> str:
    """Rows of each difference by upload, key and day."""
    columns = "upload_id, venue, symbol, source, trading_date"
    selects = [
        f"""SELECT '{change}' AS change, {columns}, count(*) AS rows, min(ts_event_ns) AS first_ns,
            max(ts_event_ns) AS last_ns
        FROM ({rows_sql([scan], wanted, parameters)}) GROUP BY {columns}"""
        for change, scan in parts.items()
    ]
    return f"SELECT * FROM ({' UNION ALL '.join(selects)}) ORDER BY change, {columns}"
