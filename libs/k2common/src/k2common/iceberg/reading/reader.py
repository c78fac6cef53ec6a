"""Any version that ever was, read from today's head; a version is looked up nearest place first.

The places are: what was announced or read before, the live snapshots, the table `ingest.versions`.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import TypeAlias

from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from k2common.errors import DataFault, RecordError, SetupError, TransientError
from k2common.iceberg.catalogs.catalog import AWAY, load_table
from k2common.iceberg.files.lru import Recent
from k2common.iceberg.files.manifest_index import Contents, Wanted
from k2common.iceberg.files.verification import FileVerifier
from k2common.iceberg.reading.plan import Footers, Plan, PlanSource, plan
from k2common.iceberg.reading.predicates import at_least, at_most, both, equal
from k2common.iceberg.reading.rows import verified_rows
from k2common.iceberg.reading.tags import Tags
from k2common.iceberg.versions.documents import VersionedSnapshot, head_version, live_versions, version_upon
from k2common.iceberg.versions.hidden_files import hidden_files
from k2common.schemas.datasets import VERSIONS
from k2common.versions.version import Version, version_at

KNOWN_PLANS = 512
PlanKey: TypeAlias = tuple[str, int, int, Wanted, int | None]


class UnknownVersion(RecordError):
    """There never was such a version, as far as the tables know."""


class VersionGone(RecordError):
    """Rows that the version showed were purged; it can never be read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableField:
    """A column of a table; `type` is Iceberg's word for it."""

    name: str
    type: str
    required: bool


class VersionReader:
    """Versions by number, time or snapshot, and the files that hold their rows; safe for threads.

    What was loaded last and what was announced since is trusted: call `refresh` now and then, and `note` for
    each announcement. An unknown number is looked for in the catalogue at once. Every method but `note` may
    read the catalogue and the warehouse, so it belongs in a worker thread, and raises TransientError when
    they do not answer.
    """

    def __init__(
        self, catalog: Catalog, *, known_limit: int = 10_000, verifier: FileVerifier | None = None
    ) -> None:
        """`verifier` is shared by the readers of a process; without one the reader has its own."""
        self._catalog = catalog
        self._verifier = verifier or FileVerifier()
        self._known: OrderedDict[tuple[str, int], Version] = OrderedDict()
        self._newest: dict[str, Version] = {}
        self._tables: dict[str, Table] = {}
        self._loaded_numbers: dict[str, int] = {}
        self._limit = known_limit
        self._footers = Footers()
        self._tags = Tags(catalog, verifier=self._verifier)
        self._files = hidden_files(catalog)
        self._contents = Contents()
        self._plans = Recent[PlanKey, Plan](limit=KNOWN_PLANS)
        self._lock = Lock()
        self._loading: dict[str, Lock] = defaultdict(Lock)

    def note(self, document: str) -> Version:
        """Take in an announcement; one that is known already changes nothing."""
        version = Version.from_json(document, self._files)
        self._note(version)
        return version

    def refresh(self, table: str) -> Version | None:
        """The newest version as the catalogue has it now; None before the first commit."""
        loaded = load_table(self._catalog, table)
        version = head_version(loaded)
        with self._lock:
            self._tables[table] = loaded
            self._loaded_numbers[table] = 0 if version is None else version.number
        if version is not None:
            self._note(version)
        return version

    def latest(self, table: str) -> Version | None:
        """The newest version that was announced or loaded; the catalogue is asked only if there is none."""
        with self._lock:
            version = self._newest.get(table)
        return version or self.refresh(table)

    def at(self, table: str, number: int) -> Version:
        """The version with this number.

        Raises UnknownVersion, or VersionGone when rows that it showed were purged.
        """
        newest = self.latest(table)
        if newest is not None and newest.is_gone(number):
            raise VersionGone(f"{table}@{number} was purged")
        return self.document(table, number)

    def document(self, table: str, number: int) -> Version:
        """What the version said, be its rows still there or not.

        Raises UnknownVersion.
        """
        with self._lock:
            known = self._known.get((table, number))
        version = known or self._found(table, number)
        if version is None:
            raise UnknownVersion(f"there is no version {table}@{number}")
        return version

    def by_time(self, table: str, moment: datetime) -> Version | None:
        """The newest version committed by `moment`; None when there was none yet."""
        live = {found.version.number: found.version for found in self.snapshots(table)}
        version = version_at(live.values(), moment)
        if version is not None and (version.number == max(live) or version.number + 1 in live):
            return version
        # Older than what is live, or in a hole that another engine's expiry has left.
        recorded = self._recorded(table, at_most("committed_at", moment.isoformat()))
        return version_at([*live.values(), *(found.version for found in recorded)], moment)

    def by_snapshot(self, table: str, snapshot_id: int) -> Version:
        """The version that this Iceberg snapshot shows, be it live or expired.

        A live one of maintenance or of another engine shows the version it was made upon; once it has expired
        it is unknown. Raises UnknownVersion.
        """
        self.refresh(table)
        with self._lock:
            metadata = self._tables[table].metadata
        version = version_upon(metadata, snapshot_id, self._files)
        if version is None:
            recorded = self._recorded(table, equal("snapshot_id", snapshot_id))
            version = recorded[0].version if recorded else None
        if version is None:
            raise UnknownVersion(f"no version of {table} was carried by snapshot {snapshot_id}")
        return self.at(table, version.number)

    def tagged(self, name: str) -> str:
        """The token that the tag stands for now.

        Raises UnknownVersion.
        """
        tag = self._tags.find(name)
        if tag is None or tag.token is None:
            raise UnknownVersion(f"{name!r} is no tag")
        return tag.token

    def snapshots(self, table: str) -> list[VersionedSnapshot]:
        """The live versions, newest first, with their snapshots."""
        self.refresh(table)
        with self._lock:
            loaded = self._tables[table]
        return live_versions(loaded.metadata, self._files)

    def plan(
        self,
        version: Version,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] = (),
        upload_id: str | None = None,
        trading_day: int | None = None,
        clock: str = "ts_event_ns",
        without: Version | None = None,
    ) -> Plan:
        """The files of today's head with the version's rows in [start_ns, end_ns) of these symbols.

        Rows that the version `without` of the table shows are left out. Files without any wanted row may be
        among the files: a reader filters by itself. `clock` is the column that the times are of,
        `trading_day` counts from 1970. The last plans are kept.
        """
        wanted = Wanted(
            start_ns=start_ns,
            end_ns=end_ns,
            symbols=tuple(sorted(set(symbols))),
            upload_id=upload_id,
            trading_day=trading_day,
            clock=clock,
        )
        loaded = self._loaded(version if without is None or without.number < version.number else without)
        snapshot = loaded.current_snapshot()
        snapshot_id = 0 if snapshot is None else snapshot.snapshot_id
        other = None if without is None else without.number
        key = (version.table, snapshot_id, version.number, wanted, other)
        known = self._plans.get(key)
        if known is None:
            known = self._planned(loaded, version, wanted, snapshot_id, without)
            self._plans.put(key, known)
        return known

    def _planned(
        self, loaded: Table, version: Version, wanted: Wanted, snapshot_id: int, without: Version | None
    ) -> Plan:
        try:
            files = [file for file in self._contents.of(loaded) if wanted.may_be_in(file)]
            footers = self._footers.of((file.path for file in files), io=loaded.io, table=version.table)
        except DataFault as fault:
            fault = fault.at(version.number)
            self._verifier.report(fault)
            raise fault from fault.__cause__
        except AWAY as error:
            raise TransientError(
                f"{version.table} cannot be planned: the warehouse cannot be read"
            ) from error
        head = head_version(loaded)
        whole = not version.hidden and head is not None and head.number == version.number
        return plan(
            files,
            version,
            snapshot_id=snapshot_id,
            footers=footers,
            whole=whole,
            without=without,
            source=PlanSource(io=loaded.io, verifier=self._verifier),
        )

    def fields(self, version: Version) -> Sequence[TableField]:
        """The columns that the version's rows have, in the table's order."""
        loaded = self._loaded(version)
        schema = loaded.schemas().get(version.schema_id, loaded.schema())
        return [
            TableField(name=field.name, type=str(field.field_type), required=field.required)
            for field in schema.fields
        ]

    def history(self, table: str, *, before: int | None, limit: int) -> list[VersionedSnapshot]:
        """Up to `limit` versions below number `before`, newest first, be their snapshots live or not."""
        newest = self.refresh(table)
        if newest is None:
            return []
        end = newest.number + 1 if before is None else before
        live = {found.version.number: found for found in self.snapshots(table)}
        condition = both(at_least("number", end - limit), at_most("number", end - 1))
        known = {found.version.number: found for found in self._recorded(table, condition)} | live
        return [known[number] for number in sorted(known, reverse=True) if number < end][:limit]

    def recorded(self, table: str, *, since: int) -> frozenset[int]:
        """Numbers from `since` on of the versions that are in `ingest.versions`."""
        return frozenset(found.version.number for found in self._recorded(table, at_least("number", since)))

    def _recorded(self, table: str, condition: BooleanExpression) -> list[VersionedSnapshot]:
        """What `ingest.versions` holds; an announcement that came twice is there once."""
        recorded = self._versions_table()
        if recorded is None:
            return []
        try:
            rows = verified_rows(
                recorded.scan(
                    row_filter=both(equal("table", table), condition),
                    selected_fields=("number", "snapshot_id", "document"),
                ),
                self._verifier,
                table=VERSIONS.table,
            )
        except AWAY as error:
            raise TransientError(f"{VERSIONS.table} cannot be read") from error
        found = {row["number"]: row for row in rows.to_pylist()}
        return [
            VersionedSnapshot(
                snapshot_id=row["snapshot_id"], version=Version.from_json(row["document"], self._files)
            )
            for row in found.values()
        ]

    def _versions_table(self) -> Table | None:
        try:
            return load_table(self._catalog, VERSIONS.table)
        except SetupError:
            return None  # there is no such table yet

    def _found(self, table: str, number: int) -> Version | None:
        live = self.snapshots(table)
        version = next((found.version for found in live if found.version.number == number), None)
        if version is None:
            recorded = self._recorded(table, equal("number", number))
            version = recorded[0].version if recorded else None
        if version is not None:
            self._note(version)
        return version

    def _loaded(self, version: Version) -> Table:
        """The table, at least as new as the version; of several that need it one asks the catalogue.

        Raises VersionGone when main was rolled back from it: its rows are not there, or not all of them.
        """
        loaded = self._at_least(version)
        if loaded is not None:
            return loaded
        with self._loading[version.table]:
            if self._at_least(version) is None:
                self.refresh(version.table)
            loaded = self._at_least(version)
        if loaded is None:
            raise VersionGone(f"{version.table} was rolled back to before version {version.number}")
        return loaded

    def _at_least(self, version: Version) -> Table | None:
        with self._lock:
            loaded, number = self._tables.get(version.table), self._loaded_numbers.get(version.table, 0)
        return loaded if number >= version.number else None

    def _note(self, version: Version) -> None:
        key = (version.table, version.number)
        with self._lock:
            self._known[key] = version
            self._known.move_to_end(key)
            while len(self._known) > self._limit:
                self._known.popitem(last=False)
            newest = self._newest.get(version.table)
            if newest is None or newest.number < version.number:
                self._newest[version.table] = version
