"""One replay: the rows of a version in the total order, in blocks, with the chained digest over them.

Days are read one after the other, each ordered by the engine within its memory limit. A checkpoint stands
after every whole block of the digest; its cursor goes on from there, on any replica.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
from k2common.columnar.canonical import BLOCK_ROWS, START, Digest
from k2common.engine.scan import ORDER_BY, Filter, Parameters, Scan, after, order_key, rows_sql
from k2common.engine.text import columns_of, json_expression, lines, quoted
from k2common.iceberg.reading.as_of import AsOf
from k2common.iceberg.reading.plan import Plan
from k2common.iceberg.reading.reader import VersionReader
from k2common.query.queries import Queries
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import DATASETS, Dataset

TEXT = "k2_text"
PART_ROWS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a replay goes on: after whole blocks, their digest, and the last row's place in the order."""

    blocks: int = 0
    chain: bytes = START
    key: Sequence[Any] | None = None

    @property
    def rows(self) -> int:
        """Rows before it."""
        return self.blocks * BLOCK_ROWS

    def to_token(self, session_id: str) -> CursorToken:
        """Return what is signed."""
        key = None if self.key is None else list(self.key)
        return CursorToken(session=session_id, blocks=self.blocks, chain=self.chain.hex(), key=key)

    @classmethod
    def from_token(cls, token: CursorToken) -> Cursor:
        """Return the cursor that was signed."""
        return cls(blocks=token.blocks, chain=bytes.fromhex(token.chain), key=token.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorToken:
    """A cursor of one session as it is signed; `chain` is hexadecimal."""

    session: str
    blocks: int
    chain: str
    key: list[Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Rows as lines of JSON."""

    rows: int
    text: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """After a whole block."""

    rows: int
    digest: str
    cursor: Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """After the last row."""

    rows: int
    digest: str


Part: TypeAlias = Lines | Checkpoint | Completed


class Replay:
    """Reads one replay. `parts` gives lines of JSON, checkpoints and, last, the completion."""

    def __init__(
        self,
        *,
        datasets: Sequence[str],
        wanted: Filter,
        as_of: AsOf,
        reader: VersionReader,
        queries: Queries,
        blocking: Blocking,
    ) -> None:
        self._datasets = [DATASETS[name] for name in datasets]
        self._wanted = wanted
        self._as_of = as_of
        self._reader = reader
        self._queries = queries
        self._blocking = blocking
        self._columns = digest_columns(self._datasets)

    async def parts(self, cursor: Cursor) -> AsyncGenerator[Part, None]:
        """Everything after `cursor`.

        Raises what the reader and the queries raise.
        """
        digest = Digest(blocks=cursor.blocks, chain=cursor.chain)
        for scans in await self._days(cursor.key):
            parameters = Parameters()
            sql = self._sql(scans, parameters, cursor.key)
            async with aclosing(self._queries.batches(sql, parameters.values, rows=PART_ROWS)) as batches:
                async for batch in batches:
                    for part in split_at_blocks(pa.Table.from_batches([batch]), digest.rows):
                        await self._blocking.run(digest.update, part.select(self._columns))
                        yield Lines(rows=part.num_rows, text=lines(part[TEXT].combine_chunks()))
                        if digest.rows % BLOCK_ROWS == 0:
                            yield _checkpoint(digest, part)
        yield Completed(rows=digest.rows, digest=digest.finish().hex())

    async def _days(self, key: Sequence[Any] | None) -> Sequence[Sequence[Scan]]:
        start = self._wanted.start_ns
        if key is not None:
            start = max(key[0], key[0] if start is None else start)
        by_day: dict[int, list[Scan]] = {}
        for dataset in self._datasets:
            plan: Plan | None = await self._blocking.run(
                self._as_of.plan,
                self._reader,
                dataset.table,
                start_ns=start,
                end_ns=self._wanted.end_ns,
                symbols=self._wanted.symbols,
            )
            for day, of_day in plan.by_day() if plan is not None else ():
                by_day.setdefault(day or 0, []).append(Scan(dataset=dataset, plan=of_day))
        return [by_day[day] for day in sorted(by_day)]

    def _sql(self, scans: Sequence[Scan], parameters: Parameters, key: Sequence[Any] | None) -> str:
        present = {scan.dataset.name: scan for scan in scans}
        rows = rows_sql(_with_empty(self._datasets, present), self._wanted, parameters)
        where = "" if key is None else f" WHERE {after(key, parameters)}"
        cases = " ".join(
            f"WHEN '{dataset.name}' THEN {json_expression(dataset, typed=True)}" for dataset in self._datasets
        )
        columns = ", ".join(quoted(name) for name in self._columns)
        text = f"CAST(CASE dataset {cases} END AS VARCHAR) AS {TEXT}"
        return f"SELECT {columns}, {text} FROM ({rows}){where} ORDER BY {ORDER_BY}"


def digest_columns(datasets: Sequence[Dataset]) -> list[str]:
    """The columns that the digest covers: the dataset's name, then all columns, each once, by dataset."""
    names = [name for dataset in datasets for name in columns_of(dataset)]
    return list(dict.fromkeys(["dataset", *names]))


def _with_empty(datasets: Sequence[Dataset], present: Mapping[str, Scan]) -> Sequence[Scan]:
    """A scan for every dataset, so that each day has the same columns."""
    (some, *_) = present.values()
    nothing = Plan(version=some.plan.version, snapshot_id=0, all_visible=(), straddling=())
    return [present.get(d.name) or Scan(dataset=d, plan=nothing) for d in datasets]


def split_at_blocks(rows: pa.Table, before: int) -> Sequence[pa.Table]:
    """The rows that follow after `before` others, split where a block of the digest ends."""
    first = BLOCK_ROWS - before % BLOCK_ROWS
    if rows.num_rows <= first:
        return [rows] if rows.num_rows else []
    return [rows.slice(0, first), *split_at_blocks(rows.slice(first), 0)]


def _checkpoint(digest: Digest, part: pa.Table) -> Checkpoint:
    names = ["ts_event_ns", "sequence", "dataset", "venue", "symbol", "upload_id", "line"]
    (last,) = part.slice(part.num_rows - 1, 1).select(names).to_pylist()
    cursor = Cursor(blocks=digest.blocks, chain=digest.chain, key=list(order_key(last)))
    return Checkpoint(rows=digest.rows, digest=digest.chain.hex(), cursor=cursor)


def in_band(kind: str, **fields: Any) -> bytes:
    """One line of the stream that is no row."""
    return json.dumps({"type": kind, **fields}, separators=(",", ":")).encode() + b"\n"
