"""Which files of the head a reader of a version needs, and which of them whole.

A file's footer says which offsets it holds, and which uploads. So a file is read whole, not at all, or with
the version's filter. Footers never change, so each is read once.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import Enum
from threading import Lock

import pyarrow.parquet as pq
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io import FileIO
from pyiceberg.table import Table

from k2common.iceberg.files import OFFSETS_KEY, UPLOADS_KEY
from k2common.versions import OffsetRange, Version

FOOTER_THREADS = 8
NO_DAY = -(2**31)


class Share(Enum):
    """How much of a file a version shows."""

    ALL = "all"
    SOME = "some"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a file says it holds.

    No `ranges` means that another engine wrote it, `uploads` of None that they are many.
    """

    ranges: tuple[OffsetRange, ...] = ()
    uploads: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Paths of the files of one snapshot that hold the version's rows.

    Rows of `straddling` files need the version's filter; those of `all_visible` files none. `days` says in
    which day since 1970, UTC, the rows of a file lie; a table that is not partitioned by day has none.
    """

    version: Version
    snapshot_id: int
    all_visible: tuple[str, ...]
    straddling: tuple[str, ...]
    days: Mapping[str, int] = field(default_factory=dict)

    def by_day(self) -> Iterator[tuple[int | None, Plan]]:
        """A plan per day, in their order; one without a day where the table is not partitioned."""
        for day in sorted({self.days.get(path, NO_DAY) for path in (*self.all_visible, *self.straddling)}):
            yield None if day == NO_DAY else day, self.of_day(day)

    def of_day(self, day: int) -> Plan:
        """The files of one day."""
        return replace(
            self,
            all_visible=tuple(p for p in self.all_visible if self.days.get(p, NO_DAY) == day),
            straddling=tuple(p for p in self.straddling if self.days.get(p, NO_DAY) == day),
        )


def classify(footer: Footer, version: Version) -> Share:
    """How much of the file with this footer the version shows; in doubt SOME."""
    if not footer.ranges:
        return Share.SOME
    if all(_share(r, version) is Share.NONE for r in footer.ranges):
        return Share.NONE
    if footer.uploads and footer.uploads <= version.hidden.keys():
        return Share.NONE
    if not all(_share(r, version) is Share.ALL for r in footer.ranges):
        return Share.SOME
    return Share.SOME if _may_hold_hidden(footer, version) else Share.ALL


def _share(held: OffsetRange, version: Version) -> Share:
    if held.epoch != version.epoch:
        return Share.ALL if held.epoch < version.epoch else Share.NONE
    end = version.offsets.get(held.partition, 0)
    if held.end <= end:
        return Share.ALL
    return Share.NONE if held.first >= end else Share.SOME


def _may_hold_hidden(footer: Footer, version: Version) -> bool:
    if footer.uploads is not None:
        return not footer.uploads.isdisjoint(version.hidden)
    return any(
        not hidden.ranges or any(_overlap(a, b) for a in hidden.ranges for b in footer.ranges)
        for hidden in version.hidden.values()
    )


def _overlap(a: OffsetRange, b: OffsetRange) -> bool:
    return (a.epoch, a.partition) == (b.epoch, b.partition) and a.first < b.end and b.first < a.end


class Footers:
    """Footers by path, the last `limit` of them kept; safe for threads."""

    def __init__(self, *, limit: int = 100_000) -> None:
        self._known: OrderedDict[str, Footer] = OrderedDict()
        self._limit = limit
        self._lock = Lock()

    def of(self, paths: Iterable[str], *, io: FileIO) -> dict[str, Footer]:
        """The footer of each file."""
        wanted = list(paths)
        with self._lock:
            found = {path: self._known[path] for path in wanted if path in self._known}
        missing = [path for path in wanted if path not in found]
        if missing:
            with ThreadPoolExecutor(FOOTER_THREADS) as pool:
                read = dict(
                    zip(missing, pool.map(lambda path: read_footer(path, io=io), missing), strict=True)
                )
            self._keep(read)
            found |= read
        return found

    def _keep(self, footers: dict[str, Footer]) -> None:
        with self._lock:
            self._known |= footers
            while len(self._known) > self._limit:
                self._known.popitem(last=False)


def read_footer(path: str, *, io: FileIO) -> Footer:
    """The footer's entries about Kafka; empty for a file that another engine wrote."""
    with io.new_input(path).open() as stream:
        entries = pq.read_metadata(stream).metadata or {}
    if OFFSETS_KEY not in entries:
        return Footer()
    ranges = tuple(
        OffsetRange(epoch=epoch, partition=partition, first=first, end=last + 1)
        for epoch, partition, first, last in json.loads(entries[OFFSETS_KEY])
    )
    uploads = entries.get(UPLOADS_KEY)
    return Footer(ranges=ranges, uploads=None if uploads is None else frozenset(json.loads(uploads)))


def plan(table: Table, version: Version, *, row_filter: BooleanExpression, footers: Footers) -> Plan:
    """The files of the table as loaded that hold rows of the version; those with none are left out."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return Plan(version=version, snapshot_id=0, all_visible=(), straddling=())
    files = [task.file for task in table.scan(row_filter=row_filter).plan_files()]
    paths = [file.file_path for file in files]
    partitioned = bool(table.spec().fields)
    shares: dict[Share, list[str]] = {share: [] for share in Share}
    for path, footer in footers.of(paths, io=table.io).items():
        shares[classify(footer, version)].append(path)
    return Plan(
        version=version,
        snapshot_id=snapshot.snapshot_id,
        all_visible=tuple(shares[Share.ALL]),
        straddling=tuple(shares[Share.SOME]),
        days={file.file_path: file.partition[0] for file in files} if partitioned else {},
    )
