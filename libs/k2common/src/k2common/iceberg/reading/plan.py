"""Which files of the head a reader of a version needs, and which of them whole.

A file's footer says which offsets it holds, and which uploads. So a file is read whole, not at all, or with
the version's filter. Footers never change, so each is read once.

The same goes for the rows of a version without those of another, which is the one way to follow a table: what
became visible is the later version without the earlier one, what was taken back the other way round.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO

from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import AWAY
from k2common.iceberg.files.data_files import OFFSETS_KEY, UPLOADS_KEY
from k2common.iceberg.files.manifest_index import FURTHEST, NO_DAY, FileEntry
from k2common.iceberg.files.verification import FileVerifier, GivenUp, faults, never, read_footer_bytes
from k2common.versions.hidden import HiddenUpload, OffsetRange
from k2common.versions.version import Version

FOOTER_THREADS = 8
MAGIC = b"PAR1"


class FileCoverage(Enum):
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
    columns: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSource:
    """Where the files of a plan are, and what verifies them."""

    io: FileIO
    verifier: FileVerifier

    @contextmanager
    def reached(self, version: Version) -> Iterator[None]:
        """Raise TransientError for a warehouse that does not answer."""
        try:
            yield
        except (GivenUp, TransientError):
            raise
        except AWAY as error:
            raise TransientError(f"{version.table}: the warehouse cannot be read") from error


class PlannedFiles(list[str]):
    """Paths of one plan; as a parameter of a query they are verified when it begins."""

    def __init__(self, paths: Sequence[str], plan: Plan) -> None:
        super().__init__(paths)
        self.plan = plan

    def verify(self, stopped: Callable[[], bool] = never) -> None:
        """Raise as `Plan.verify`."""
        self.plan.verify(self, stopped=stopped)

    def explain(self) -> None:
        """Raise as `Plan.explain`."""
        self.plan.explain(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Paths of the files of one snapshot that hold the version's rows, and what is known of each file.

    Rows of `straddling` files need the version's filter; those of `all_visible` files none. `columns` are
    those that every file has; a file of an older schema has fewer. With `without` the rows that this other
    version shows are left out, and straddling files need the filter of both.
    """

    version: Version
    snapshot_id: int
    all_visible: tuple[str, ...]
    straddling: tuple[str, ...]
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    columns: frozenset[str] = frozenset()
    without: Version | None = None
    source: PlanSource | None = field(default=None, compare=False, repr=False)

    def opened(self, paths: Sequence[str]) -> PlannedFiles:
        """Return some of the paths for the engine, which verifies them when its query begins."""
        return PlannedFiles(paths, self)

    def verify(self, paths: Sequence[str], *, stopped: Callable[[], bool] = never) -> None:
        """Return when these files of the plan are whole.

        Raises DataDamaged or DataMissing, GivenUp once `stopped`, TransientError when the warehouse does not
        answer.
        """
        if self.source is not None:
            with self.source.reached(self.version):
                self.source.verifier.verify(
                    paths,
                    io=self.source.io,
                    table=self.version.table,
                    version=self.version.number,
                    stopped=stopped,
                )

    def explain(self, paths: Sequence[str]) -> None:
        """Look for the file on which a reader failed; raises as `verify`."""
        if self.source is not None:
            with self.source.reached(self.version):
                self.source.verifier.explain(
                    paths, io=self.source.io, table=self.version.table, version=self.version.number
                )

    @property
    def rows(self) -> int:
        """Rows of the files; the version shows at most as many."""
        return sum(self.files[path].rows for path in self.paths)

    @property
    def paths(self) -> tuple[str, ...]:
        """All files."""
        return (*self.all_visible, *self.straddling)

    def by_day(self) -> Iterator[tuple[int | None, Plan]]:
        """A plan per day, in their order; one without a day where the table is not partitioned."""
        for day in sorted({self._day(path) for path in self.paths}):
            yield None if day == NO_DAY else day, self.of_day(day)

    def of_day(self, day: int) -> Plan:
        """The files of one day."""
        return replace(
            self,
            all_visible=tuple(path for path in self.all_visible if self._day(path) == day),
            straddling=tuple(path for path in self.straddling if self._day(path) == day),
        )

    def joined(self, others: Sequence[Plan]) -> Plan:
        """The files of this plan and of others of the same version and filter."""
        plans = (self, *others)
        return replace(
            self,
            all_visible=tuple(path for plan in plans for path in plan.all_visible),
            straddling=tuple(path for plan in plans for path in plan.straddling),
        )

    def in_order(self, clock: str) -> list[Plan]:
        """Plans that share no time of `clock`, each before the next one.

        Rows without a time come last in every order, so a column that may hold nulls makes one plan.
        """
        entries = [self.files[path] for path in self.paths if path in self.files]
        if len(entries) < len(self.paths) or not all(clock in entry.complete for entry in entries):
            return [self] if self.paths else []
        spans = sorted((*entry.span_ns(clock), entry.path) for entry in entries)
        groups: list[list[str]] = []
        end = -FURTHEST - 1
        for first, last, path in spans:
            if first > end:
                groups.append([])
            groups[-1].append(path)
            end = max(end, last)
        whole = frozenset(self.all_visible)
        return [
            replace(
                self,
                all_visible=tuple(path for path in group if path in whole),
                straddling=tuple(path for path in group if path not in whole),
            )
            for group in groups
        ]

    def _day(self, path: str) -> int:
        return self.files[path].day if path in self.files else NO_DAY


def classify(footer: Footer, version: Version) -> FileCoverage:
    """How much of the file with this footer the version shows; in doubt SOME."""
    if not footer.ranges:
        return FileCoverage.SOME
    if all(_share(r, version) is FileCoverage.NONE for r in footer.ranges):
        return FileCoverage.NONE
    if footer.uploads and all(upload in version.hidden for upload in footer.uploads):
        return FileCoverage.NONE
    if not all(_share(r, version) is FileCoverage.ALL for r in footer.ranges):
        return FileCoverage.SOME
    return FileCoverage.SOME if _may_hold(footer, version.hidden) else FileCoverage.ALL


def classify_without(footer: Footer, version: Version, without: Version) -> FileCoverage:
    """How much of the file is shown by `version` and not by `without`; in doubt SOME."""
    here, there = classify(footer, version), classify(footer, without)
    if here is FileCoverage.NONE or there is FileCoverage.ALL:
        return FileCoverage.NONE
    if there is FileCoverage.NONE:
        return here
    unhidden = {upload: without.hidden[upload] for upload in unhidden_in(version, without)}
    arrived = any(
        _share(r, version) is not FileCoverage.NONE and _share(r, without) is not FileCoverage.ALL
        for r in footer.ranges
    )
    if footer.ranges and not arrived and not _may_hold(footer, unhidden):
        return FileCoverage.NONE
    return FileCoverage.SOME


def unhidden_in(version: Version, without: Version) -> frozenset[str]:
    """Uploads that `without` hides and `version` does not: their rows may be no new ones."""
    return frozenset(without.hidden.keys() - version.hidden.keys())


def _share(held: OffsetRange, version: Version) -> FileCoverage:
    if held.epoch != version.epoch:
        return FileCoverage.ALL if held.epoch < version.epoch else FileCoverage.NONE
    end = version.offsets.get(held.partition, 0)
    if held.end <= end:
        return FileCoverage.ALL
    return FileCoverage.NONE if held.first >= end else FileCoverage.SOME


def _may_hold(footer: Footer, uploads: Mapping[str, HiddenUpload]) -> bool:
    if footer.uploads is not None:
        return any(upload in uploads for upload in footer.uploads)
    return any(
        not hidden.ranges or any(_overlap(a, b) for a in hidden.ranges for b in footer.ranges)
        for hidden in uploads.values()
    )


def _overlap(a: OffsetRange, b: OffsetRange) -> bool:
    return (a.epoch, a.partition) == (b.epoch, b.partition) and a.first < b.end and b.first < a.end


class Footers:
    """Footers by path, the last `limit` of them kept; safe for threads."""

    def __init__(self, *, limit: int = 100_000) -> None:
        self._known: OrderedDict[str, Footer] = OrderedDict()
        self._limit = limit
        self._lock = Lock()

    def of(self, paths: Iterable[str], *, io: FileIO, table: str = "") -> dict[str, Footer]:
        """The footer of each file.

        Raises DataDamaged or DataMissing, and what the store raises.
        """
        wanted = list(paths)
        with self._lock:
            found = {path: self._known[path] for path in wanted if path in self._known}
        missing = [path for path in wanted if path not in found]
        if missing:
            with ThreadPoolExecutor(FOOTER_THREADS) as pool:
                read = dict(
                    zip(
                        missing,
                        pool.map(lambda path: read_footer(path, io=io, table=table), missing),
                        strict=True,
                    )
                )
            self._keep(read)
            found |= read
        return found

    def _keep(self, footers: dict[str, Footer]) -> None:
        with self._lock:
            self._known |= footers
            while len(self._known) > self._limit:
                self._known.popitem(last=False)


def read_footer(path: str, *, io: FileIO, table: str = "") -> Footer:
    """The footer's entries about Kafka; empty for a file that another engine wrote.

    Raises DataDamaged or DataMissing, and what the store raises.
    """
    footer = read_footer_bytes(io, path, table=table)
    with faults(table, path):
        return _parsed(pq.read_metadata(pa.BufferReader(MAGIC + footer)))


def _parsed(metadata: pq.FileMetaData) -> Footer:
    entries, columns = metadata.metadata or {}, frozenset(metadata.schema.to_arrow_schema().names)
    if OFFSETS_KEY not in entries:
        return Footer(columns=columns)
    ranges = tuple(
        OffsetRange(epoch=epoch, partition=partition, first=first, end=last + 1)
        for epoch, partition, first, last in json.loads(entries[OFFSETS_KEY])
    )
    uploads = entries.get(UPLOADS_KEY)
    named = None if uploads is None else frozenset(json.loads(uploads))
    return Footer(ranges=ranges, uploads=named, columns=columns)


def plan(
    files: Sequence[FileEntry],
    version: Version,
    *,
    snapshot_id: int,
    footers: Mapping[str, Footer],
    whole: bool = False,
    without: Version | None = None,
    source: PlanSource | None = None,
) -> Plan:
    """The files that hold rows of the version that `without` does not show; those with none are left out.

    `whole` says that the version is the snapshot's own and hides nothing: then it shows every row that came
    from Kafka.
    """
    shares: dict[FileCoverage, list[str]] = {share: [] for share in FileCoverage}
    for file in files:
        footer = footers[file.path]
        if without is not None:
            share = classify_without(footer, version, without)
        else:
            share = FileCoverage.ALL if whole and footer.ranges else classify(footer, version)
        shares[share].append(file.path)
    kept = {*shares[FileCoverage.ALL], *shares[FileCoverage.SOME]}
    columns = [footers[path].columns for path in kept]
    return Plan(
        version=version,
        snapshot_id=snapshot_id,
        all_visible=tuple(shares[FileCoverage.ALL]),
        straddling=tuple(shares[FileCoverage.SOME]),
        files={file.path: file for file in files if file.path in kept},
        columns=frozenset.intersection(*columns) if columns else frozenset(),
        without=without,
        source=source,
    )
