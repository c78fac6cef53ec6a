"""What the manifests of a snapshot say of its data files; each manifest is read and parsed once.

Manifests never change, so a new snapshot costs its list and the manifests that it brought.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from k2common.iceberg.files.avro_files import manifests_of, read_entries
from k2common.iceberg.files.lru import Recent

BOUNDED = ("symbol", "upload_id", "trading_date", "ts_event", "ts_event_ns", "ts_recv_ns", "ts_ingest")
"""Columns whose bounds are kept: readers ask by them."""
NO_DAY = -(2**31)
NS_PER_US = 1_000
FURTHEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One data file: rows, bytes, its day since 1970 in UTC, and the bounds of its columns.

    A column without known bounds is not among `bounds`; one in `complete` holds no null.
    """

    path: str
    rows: int
    bytes: int
    day: int = NO_DAY
    bounds: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    complete: frozenset[str] = frozenset()

    def span_ns(self, clock: str) -> tuple[int, int]:
        """First and last time of the clock's column, in nanoseconds, at least as wide as the rows are."""
        first, last = self.bounds.get(clock, (-FURTHEST, FURTHEST))
        if clock in MICROSECONDS and clock in self.bounds:
            return first * NS_PER_US, last * NS_PER_US + NS_PER_US - 1
        return first, last


MICROSECONDS = frozenset({"ts_event", "ts_ingest"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows a plan is for; what is None or empty is no condition.

    Times of `clock` in [start_ns, end_ns), symbols in ascending order, a trading date in days since 1970.
    """

    start_ns: int | None = None
    end_ns: int | None = None
    symbols: tuple[str, ...] = ()
    upload_id: str | None = None
    trading_day: int | None = None
    clock: str = "ts_event_ns"

    def may_be_in(self, file: FileEntry) -> bool:
        """Whether the file can hold such a row."""
        first, last = file.span_ns(self.clock)
        if self.start_ns is not None and last < self.start_ns:
            return False
        if self.end_ns is not None and first >= self.end_ns:
            return False
        exact = (("upload_id", self.upload_id), ("trading_date", self.trading_day))
        return self._has_symbol(file) and all(_within(file, name, value) for name, value in exact)

    def _has_symbol(self, file: FileEntry) -> bool:
        if not self.symbols or "symbol" not in file.bounds:
            return True
        first, last = file.bounds["symbol"]
        return bisect_left(self.symbols, first) < bisect_right(self.symbols, last)


def _within(file: FileEntry, column: str, value: Any) -> bool:
    if value is None or column not in file.bounds:
        return True
    first, last = file.bounds[column]
    return bool(first <= value <= last)


class Contents:
    """The files of snapshots; those of the manifests used last are kept. Safe for threads."""

    def __init__(self, *, files: int = 100_000, snapshots: int = 64) -> None:
        self._manifests = Recent[str, Sequence[FileEntry]](limit=files, weight=len)
        self._snapshots = Recent[int, Sequence[FileEntry]](limit=snapshots)

    def of(self, table: Table) -> Sequence[FileEntry]:
        """The data files of the table's current snapshot."""
        snapshot = table.current_snapshot()
        if snapshot is None:
            return ()
        found = self._snapshots.get(snapshot.snapshot_id)
        if found is None:
            found = [
                file
                for manifest in manifests_of(snapshot, table)
                if manifest.content == ManifestContent.DATA
                for file in self._of_manifest(manifest, table)
            ]
            self._snapshots.put(snapshot.snapshot_id, found)
        return found

    def _of_manifest(self, manifest: ManifestFile, table: Table) -> Sequence[FileEntry]:
        found = self._manifests.get(manifest.manifest_path)
        if found is None:
            found = read_manifest(manifest, schema=table.schema(), io=table.io, table=".".join(table.name()))
            self._manifests.put(manifest.manifest_path, found)
        return found


def read_manifest(
    manifest: ManifestFile, *, schema: Schema, io: FileIO, table: str = ""
) -> Sequence[FileEntry]:
    """The files that the manifest adds or keeps."""
    columns = {f.field_id: (f.name, f.field_type) for f in schema.fields if f.name in BOUNDED}
    entries = read_entries(manifest, io, table=table)
    return [file_entry(entry.data_file, columns) for entry in entries]


def file_entry(file: DataFile, columns: Mapping[int, tuple[str, Any]]) -> FileEntry:
    """What is kept of a file; `columns` has name and type of those with bounds, by field id."""
    lower, upper, nulls = file.lower_bounds or {}, file.upper_bounds or {}, file.null_value_counts or {}
    bounds = {
        name: (from_bytes(kind, lower[number]), from_bytes(kind, upper[number]))
        for number, (name, kind) in columns.items()
        if number in lower and number in upper
    }
    return FileEntry(
        path=file.file_path,
        rows=file.record_count,
        bytes=file.file_size_in_bytes,
        day=file.partition[0] if len(file.partition) else NO_DAY,
        bounds=bounds,
        complete=frozenset(name for number, (name, _) in columns.items() if nulls.get(number) == 0),
    )
