"""Rows of uploads that were taken back leave the tables for good; versions that showed them say so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import AWAY, load_table
from k2common.iceberg.commits.commit import Change, CommitResult
from k2common.iceberg.files.manifests import LiveFile
from k2common.iceberg.files.snapshot_writer import FilesGone
from k2common.iceberg.files.verification import open_parquet
from k2common.iceberg.maintenance.rewrite import (
    MAX_BYTES,
    Bounds,
    commit_rewritten,
    live_files,
    packed,
    rewrite,
)
from k2common.iceberg.reading.plan import Footers
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.versions.documents import head_version
from k2common.versions.hidden import HiddenUpload
from k2common.versions.version import Version, merge_spans

Span = tuple[int, int]
"""Version numbers, both ends inclusive."""

Place = tuple[int, int, int]
"""Epoch, partition and offset of a row."""

PLACE = ("kafka_epoch", "kafka_partition", "kafka_offset")
NO_UPLOADS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What a purge did: `spans` are the versions that can be read no more."""

    uploads: frozenset[str] = NO_UPLOADS
    rows: int = 0
    spans: tuple[Span, ...] = ()
    results: tuple[CommitResult, ...] = ()


def purgeable(now: Version, then: Version | None) -> frozenset[str]:
    """Uploads that were hidden for good already in version `then`, and still are."""
    if then is None:
        return NO_UPLOADS
    return frozenset(
        upload for upload in now.hidden if now.hidden[upload].is_final and _is_final(then, upload)
    )


def shown_between(
    upload: str, firsts: Iterable[Place], *, newest: int, version_at: Callable[[int], Version]
) -> Span | None:
    """The first and the last version that showed any row of the upload, None when none did.

    `firsts` are its first rows per partition. From version to version an upload has no rows, is loading, is
    shown, is hidden for good, and never goes back; so both ends are found by halving.
    """
    places = list(firsts)

    def shows(number: int) -> bool:
        version = version_at(number)
        return any(version.shows(upload, epoch=e, partition=p, offset=o) for e, p, o in places)

    hidden_at = _first(1, newest, lambda number: _is_final(version_at(number), upload))
    begin = _first(1, hidden_at - 1, shows)
    return None if begin == hidden_at else (begin, hidden_at - 1)


class Purge:
    """Purges one table."""

    def __init__(
        self,
        catalog: Catalog,
        name: str,
        *,
        reader: VersionReader,
        order: Sequence[str],
        max_rows: int,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._catalog = catalog
        self._name = name
        self._reader = reader
        self._order = order
        self._bounds = Bounds(rows=max_rows, bytes=max_bytes)
        self._footers = Footers()

    def run(self, *, hidden_since: datetime, now: datetime, dry_run: bool = False) -> Purged:
        """Delete the rows of the uploads that were hidden for good at `hidden_since` already.

        Every commit records the versions that showed them, the last one forgets the uploads; what is
        interrupted goes on with the next call. Raises TransientError when the catalogue or the warehouse
        does not answer.
        """
        table = load_table(self._catalog, self._name)
        head = head_version(table)
        then = None if head is None else self._reader.by_time(self._name, hidden_since)
        uploads = NO_UPLOADS if head is None else purgeable(head, then)
        if head is None or not uploads:
            return Purged()
        try:
            files = self._holding(table, uploads)
            firsts = self._firsts(table, files, uploads)
        except AWAY as error:
            raise TransientError(f"{self._name} cannot be purged: {error}") from error
        spans = [
            shown_between(upload, places, newest=head.number, version_at=self._version)
            for upload, places in firsts.items()
        ]
        purged = Purged(uploads=uploads, spans=merge_spans(span for span in spans if span is not None))
        return purged if dry_run else self._commit(table, files, purged, now=now)

    def _version(self, number: int) -> Version:
        return self._reader.document(self._name, number)

    def _holding(self, table: Table, uploads: Set[str]) -> list[LiveFile]:
        files = live_files(table)
        footers = self._footers.of([file.file_path for file in files], io=table.io, table=self._name)
        may_hold = {
            path for path, f in footers.items() if f.uploads is None or not uploads.isdisjoint(f.uploads)
        }
        return [file for file in files if file.file_path in may_hold]

    def _firsts(
        self, table: Table, files: Sequence[LiveFile], uploads: Set[str]
    ) -> Mapping[str, Sequence[Place]]:
        found: dict[tuple[str, int, int], int] = {}
        wanted = pa.array(sorted(uploads), pa.string())
        for file in files:
            with open_parquet(table.io, file.file_path, table=self._name) as parquet:
                rows = parquet.read(columns=["upload_id", *PLACE])
            rows = rows.filter(pc.is_in(rows["upload_id"], wanted))
            least = rows.group_by(["upload_id", *PLACE[:2]]).aggregate([(PLACE[2], "min")])
            for row in least.to_pylist():
                key = (row["upload_id"], row["kafka_epoch"], row["kafka_partition"])
                first = row["kafka_offset_min"]
                found[key] = min(first, found.get(key, first))
        places: dict[str, list[Place]] = defaultdict(list)
        for (upload, epoch, partition), offset in found.items():
            places[upload].append((epoch, partition, offset))
        return places

    def _commit(self, table: Table, files: Sequence[LiveFile], purged: Purged, *, now: datetime) -> Purged:
        # Without any file the uploads are forgotten all the same.
        groups = packed(files, self._bounds) or [[]]
        rows = 0
        results: list[CommitResult] = []
        for number, group in enumerate(groups, start=1):
            rewritten = rewrite(
                group, table=table, order=self._order, bounds=self._bounds, without=purged.uploads
            )
            forget = purged.uploads if number == len(groups) else NO_UPLOADS
            try:
                change = _change(purged.spans, forget, now=now)
                results.append(commit_rewritten(self._catalog, table, group, rewritten, change=change))
            except FilesGone:
                # Compaction was faster: the uploads stay hidden, and the next call finds their rows.
                break
            rows += rewritten.left_out.rows
        return replace(purged, rows=rows, results=tuple(results))


def _change(spans: tuple[Span, ...], forget: Set[str], *, now: datetime) -> Change:
    def change(head: Version | None) -> Version:
        if head is None:
            raise ValueError("a table without a version has nothing to purge")
        hidden: Mapping[str, HiddenUpload] = {u: e for u, e in head.hidden.items() if u not in forget}
        version = head.successor(now=now, offsets={}, hidden=hidden)
        return replace(version, gone=merge_spans((*head.gone, *spans)))

    return change


def _first(least: int, most: int, holds: Callable[[int], bool]) -> int:
    """The first number of [least, most] that holds, `most` + 1 when none does; from it on all do."""
    while least <= most:
        middle = (least + most) // 2
        if holds(middle):
            most = middle - 1
        else:
            least = middle + 1
    return least


def _is_final(version: Version, upload: str) -> bool:
    entry = version.hidden.get(upload)
    return entry is not None and entry.is_final
