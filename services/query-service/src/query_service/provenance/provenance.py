"""From a row back to the line that it came from: its receipt, the row, the raw record in the archive."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from k2common.engine.scan import Filter, Parameters, Scan, rows_sql
from k2common.engine.text import json_expression
from k2common.errors import RecordError
from k2common.layouts.catalogue import layout_named
from k2common.layouts.cutter import RECORD_BYTES
from k2common.layouts.records import BOM, record_ends
from k2common.query.queries import Queries
from k2common.schemas.datasets import REJECTS, Topic

NEWLINE = b"\n"
KAFKA = ("kafka_epoch", "kafka_partition", "kafka_offset")
REASONS = ("code", "column", "message", "raw")


async def receipt_of(queries: Queries, scan: Scan | None, upload_id: str) -> Mapping[str, Any] | None:
    """The final receipt in `ingest.uploads`."""
    if scan is None:
        return None
    parameters = Parameters()
    rows = rows_sql([scan], Filter(), parameters)
    sql = f"SELECT receipt FROM ({rows}) WHERE upload_id = {parameters.bind(upload_id)} LIMIT 1"
    found = (await queries.table(sql, parameters.values))["receipt"].to_pylist()
    receipt: Mapping[str, Any] | None = json.loads(found[0]) if found else None
    return receipt


async def row_of(
    queries: Queries, scan: Scan | None, topic: Topic, upload_id: str, line: int
) -> Mapping[str, Any] | None:
    """The row of the version, and its place in Kafka."""
    if scan is None or not scan.plan.paths:
        return None
    columns = f"CAST({json_expression(scan.dataset)} AS VARCHAR) AS text, {', '.join(KAFKA)}"
    found = await _at(queries, scan, columns, upload_id, line)
    if found is None:
        return None
    epoch, partition, offset = (found[name] for name in KAFKA)
    place = {"topic": topic.name, "epoch": epoch, "partition": partition, "offset": offset}
    return {"row": json.loads(found["text"]), "kafka": place}


async def reject_of(
    queries: Queries, scan: Scan | None, upload_id: str, line: int
) -> Mapping[str, Any] | None:
    """Why the line gave no row, where it was refused."""
    if scan is None or scan.dataset is not REJECTS:
        return None
    return await _at(queries, scan, ", ".join(f'"{name}"' for name in REASONS), upload_id, line)


async def _at(
    queries: Queries, scan: Scan, columns: str, upload_id: str, line: int
) -> Mapping[str, Any] | None:
    parameters = Parameters()
    rows = rows_sql([scan], Filter(), parameters)
    place = f"upload_id = {parameters.bind(upload_id)} AND line = {parameters.bind(line)}"
    sql = f"SELECT {columns} FROM ({rows}) WHERE {place} LIMIT 1"
    found = (await queries.table(sql, parameters.values)).to_pylist()
    return dict(found[0]) if found else None


def dialect_of(receipt: Mapping[str, Any]) -> tuple[str, str]:
    """Delimiter and encoding of the file, of the receipt or of the layout that it names."""
    if "delimiter" in receipt:
        return receipt["delimiter"], receipt["encoding"]
    try:
        layout = layout_named(receipt["layout"], dataset=receipt["dataset"])
    except RecordError:
        return ",", "utf-8"
    return layout.delimiter, layout.encoding


def record_at(pieces: Iterator[bytes], line: int, *, delimiter: str) -> bytes | None:
    """The record that starts on the physical line, from 1, without its end; None past the last line.

    It is searched in the pieces as they come, and memory holds one piece and the record.
    """
    missing = line - 1
    kept = b""
    for piece in pieces:
        rest = piece
        if missing:
            newlines = piece.count(NEWLINE)
            if newlines < missing:
                missing -= newlines
                continue
            rest, missing = piece[_after(piece, missing) :], 0
        kept += rest
        ends = record_ends(kept, delimiter)
        if len(ends):
            return _bare(kept[: int(ends[0])], line)
        if len(kept) > RECORD_BYTES:
            return None
    return _bare(kept, line) if kept else None


def _after(piece: bytes, newlines: int) -> int:
    at = 0
    for _ in range(newlines):
        at = piece.index(NEWLINE, at) + 1
    return at


def _bare(record: bytes, line: int) -> bytes:
    return record.removeprefix(BOM if line == 1 else b"").removesuffix(b"\r")
