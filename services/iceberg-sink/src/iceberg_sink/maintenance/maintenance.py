"""The work on a table beside its commits: merge, purge, verify and collect files, expire snapshots.

It has a thread of its own and never holds up a commit. One replica works on a table at a time, since one is
enough; that two do it at once is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import Catalog, load_table
from k2common.iceberg.commits.expiry import Retention, expire, expired
from k2common.iceberg.commits.table_totals import Totals
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.maintenance.inventory import Inventory, inventory
from k2common.iceberg.maintenance.orphan_files import Sweeper
from k2common.iceberg.maintenance.purge import Purge
from k2common.iceberg.maintenance.rewrite import Bounds, ForeignDeletes, ProofFailed, live_files
from k2common.iceberg.maintenance.scrub import Scrubber
from k2common.iceberg.reading.reader import VersionReader
from k2common.observability.logging import get_logger
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.runtime.retry import wait_or_stop
from k2common.schemas.datasets import Dataset, OwnTable

from iceberg_sink.commits.announcer import Announcement, unrecorded
from iceberg_sink.commits.recorded_versions import Recorded
from iceberg_sink.metrics import MaintenanceMetrics
from iceberg_sink.settings import MaintenanceSettings
from iceberg_sink.tasks import Task

LATE = timedelta(seconds=60)
"""A version that is not recorded so long after its commit is announced again."""
POLL_INTERVAL_SECONDS = 1.0
log = get_logger(__name__)
Announce: TypeAlias = Callable[[Dataset | OwnTable, Sequence[Announcement]], Awaitable[None]]
Figures: TypeAlias = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The last pass of a task: when it ended, how long it took, what it did."""

    at: datetime
    seconds: float
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceDependencies:
    """What the work on every table needs."""

    catalog: Catalog
    reader: VersionReader
    settings: MaintenanceSettings
    live_snapshots: int
    attempts: int
    announce: Announce
    blocking: Blocking
    clock: Clock
    metrics: MaintenanceMetrics
    tables: Mapping[str, Dataset | OwnTable] = field(default_factory=dict)
    told: Callable[[str, Totals | None], None] = lambda _table, _totals: None
    """Told what a table is made of once a pass has changed it."""

    @property
    def bounds(self) -> Bounds:
        return Bounds(rows=self.settings.compact_rows, bytes=self.settings.compact_bytes)

    def interval_seconds(self, task: Task) -> float:
        """Time between two passes."""
        settings = self.settings
        return {
            Task.COMPACT: settings.compact_interval_seconds,
            Task.EXPIRE: settings.expire_interval_seconds,
            Task.PURGE: settings.purge_interval_seconds,
            Task.COLLECT: settings.orphan_removal_interval_seconds,
            Task.SCRUB: settings.scrub_interval_seconds,
        }[task]


class TableMaintenance:
    """The work on one table; passes of one process follow each other."""

    def __init__(self, dataset: Dataset | OwnTable, upkeep: MaintenanceDependencies) -> None:
        self._dataset = dataset
        self._upkeep = upkeep
        self._recorded = Recorded(upkeep.reader, dataset)
        guard = timedelta(seconds=upkeep.settings.orphan_min_age_seconds)
        self._sweeper = Sweeper(upkeep.catalog, dataset.table, guard=guard)
        self._scrubber = Scrubber(
            upkeep.catalog, dataset.table, period_seconds=upkeep.settings.scrub_period_seconds
        )
        self._turn = asyncio.Lock()
        # An idle table costs the reading of its head and nothing more.
        self._seen: int | None = None
        self.last: dict[Task, Done] = {}

    @property
    def table(self) -> str:
        return self._dataset.table

    async def run(
        self, task: Task, *, dry_run: bool = False, ended: Callable[[], bool] = lambda: False
    ) -> Figures:
        """One pass, until it is done or `ended`; with `dry_run` what it would do.

        Raises TransientError when a dependency is unavailable, ProofFailed or ForeignDeletes when files
        cannot be rewritten.
        """
        passes = {
            Task.COMPACT: self._compact,
            Task.EXPIRE: self._expire,
            Task.PURGE: self._purge,
            Task.COLLECT: self._collect,
            Task.SCRUB: self._scrub,
        }
        upkeep, labels = self._upkeep, (self.table, str(task))
        async with self._turn:
            started = upkeep.clock.monotonic()
            try:
                figures = await passes[task](dry_run, ended)
            except (TransientError, ProofFailed, ForeignDeletes):
                upkeep.metrics.failed.labels(*labels).inc()
                raise
            seconds = upkeep.clock.monotonic() - started
        if not dry_run:
            upkeep.metrics.seconds.labels(*labels).observe(seconds)
            upkeep.metrics.completed.labels(*labels).set(upkeep.clock.now().timestamp())
            self.last[task] = Done(at=upkeep.clock.now(), seconds=seconds, figures=figures)
        return figures

    async def require_own_deletes(self) -> None:
        """Raise ForeignDeletes when another engine has deleted rows of the table in files of their own.

        Raises TransientError when a dependency is unavailable.
        """
        await self._upkeep.blocking.run(lambda: live_files(load_table(self._upkeep.catalog, self.table)))

    async def inventory(self) -> Inventory:
        """What the table is made of. Raises TransientError."""
        return await self._upkeep.blocking.run(self._inventory)

    def _inventory(self) -> Inventory:
        return inventory(load_table(self._upkeep.catalog, self.table), bounds=self._upkeep.bounds)

    async def _compact(self, dry_run: bool, ended: Callable[[], bool]) -> Figures:
        upkeep = self._upkeep
        done = await upkeep.blocking.run(
            compact,
            upkeep.catalog,
            self.table,
            order=self._dataset.order,
            max_rows=upkeep.bounds.rows,
            max_bytes=upkeep.bounds.bytes,
            retention=self._retention,
            attempts=upkeep.attempts,
            dry_run=dry_run,
            seen=self._seen,
            ended=ended,
        )
        self._seen = done.seen
        if not dry_run:
            upkeep.metrics.compacted.labels(self.table).inc(done.files)
            upkeep.told(self.table, done.totals)
        return {"groups": done.groups, "files": done.files, "rows": done.rows}

    async def _expire(self, dry_run: bool, ended: Callable[[], bool]) -> Figures:
        upkeep = self._upkeep
        if dry_run:
            return {"snapshots": len(await upkeep.blocking.run(self._surplus)), "announced": 0}
        # What its owner left unannounced when it was killed would keep its snapshot for ever.
        late = await upkeep.blocking.run(self._late)
        await upkeep.announce(self._dataset, late)
        gone = await upkeep.blocking.run(expire, upkeep.catalog, self.table, retention=self._retention)
        upkeep.metrics.expired.labels(self.table).inc(len(gone))
        return {"snapshots": len(gone), "announced": len(late)}

    def _surplus(self) -> Sequence[int]:
        return expired(load_table(self._upkeep.catalog, self.table).metadata, self._retention)

    def _late(self) -> Sequence[Announcement]:
        if not self._dataset.versioned:
            return ()
        before = self._upkeep.clock.now() - LATE
        found = unrecorded(self._upkeep.catalog, self.table, self._recorded)
        return [announcement for announcement in found if announcement.version.committed_at < before]

    async def _purge(self, dry_run: bool, ended: Callable[[], bool]) -> Figures:
        upkeep = self._upkeep
        if not self._dataset.visibility:
            return {"uploads": 0, "rows": 0, "versions": 0}
        now = upkeep.clock.now()
        purge = Purge(
            upkeep.catalog,
            self.table,
            reader=upkeep.reader,
            order=self._dataset.order,
            max_rows=upkeep.bounds.rows,
            max_bytes=upkeep.bounds.bytes,
        )
        hidden_since = now - timedelta(seconds=upkeep.settings.purge_after_seconds)
        done = await upkeep.blocking.run(purge.run, hidden_since=hidden_since, now=now, dry_run=dry_run)
        await upkeep.announce(
            self._dataset,
            [Announcement.of(result) for result in done.results],
        )
        for result in done.results[-1:]:
            upkeep.told(self.table, result.totals)
        upkeep.metrics.purged.labels(self.table).inc(done.rows)
        versions = sum(last - first + 1 for first, last in done.spans)
        return {"uploads": len(done.uploads), "rows": done.rows, "versions": versions}

    async def _collect(self, dry_run: bool, ended: Callable[[], bool]) -> Figures:
        upkeep = self._upkeep
        swept = await upkeep.blocking.run(
            self._sweeper.sweep, now=upkeep.clock.now(), dry_run=dry_run, ended=ended
        )
        if not dry_run:
            upkeep.metrics.collected.labels(self.table).inc(swept.deleted)
        return {"unreferenced": swept.unreferenced, "bytes": swept.bytes, "deleted": swept.deleted}

    async def _scrub(self, dry_run: bool, ended: Callable[[], bool]) -> Figures:
        upkeep = self._upkeep
        done = await upkeep.blocking.run(
            self._scrubber.scrub,
            now=upkeep.clock.monotonic(),
            max_bytes=upkeep.settings.scrub_bytes,
            dry_run=dry_run,
            ended=ended,
        )
        if not dry_run:
            upkeep.metrics.scrubbed.labels(self.table).inc(done.files)
            upkeep.metrics.scrubbed_bytes.labels(self.table).inc(done.bytes)
            upkeep.metrics.damaged.labels(self.table).set(done.damaged + done.missing)
            upkeep.metrics.without_digest.labels(self.table).set(done.without_digest)
        return asdict(done)

    @property
    def _retention(self) -> Retention:
        return Retention(live=self._upkeep.live_snapshots, recorded=self._recorded)


class Maintenance:
    """All tables: for commands, and by the clock for those that this replica looks after."""

    def __init__(self, upkeep: MaintenanceDependencies) -> None:
        self._upkeep = upkeep
        self.tables = {dataset.table: TableMaintenance(dataset, upkeep) for dataset in upkeep.tables.values()}
        self._started: dict[tuple[str, Task], float] = {}

    def look_after(self, tables: Sequence[str]) -> Callable[[asyncio.Event], Awaitable[None]]:
        """The work on these tables until it is stopped; no pass that fails ends it."""

        async def work(stop: asyncio.Event) -> None:
            stopping = asyncio.create_task(stop.wait())
            try:
                while not stop.is_set():
                    passes = asyncio.create_task(self._passes(tables, stop))
                    # A pass in mid-work ends after its next step; it may do so beside another replica's.
                    await asyncio.wait({passes, stopping}, return_when=asyncio.FIRST_COMPLETED)
                    if passes.done():
                        passes.result()
                    await wait_or_stop(stop, POLL_INTERVAL_SECONDS)
            finally:
                stopping.cancel()

        return work

    async def _passes(self, tables: Sequence[str], stop: asyncio.Event) -> None:
        for table in tables:
            for task in Task:
                if not stop.is_set() and self._is_due(table, task):
                    await self._pass(self.tables[table], task, stop)

    def _is_due(self, table: str, task: Task) -> bool:
        """Whether it is time, and note that the pass begins; the first is due after one interval."""
        now = self._upkeep.clock.monotonic()
        started = self._started.setdefault((table, task), now)
        if now - started < self._upkeep.interval_seconds(task):
            return False
        self._started[table, task] = now
        return True

    async def _pass(self, table: TableMaintenance, task: Task, stop: asyncio.Event) -> None:
        try:
            figures = await table.run(task, ended=stop.is_set)
        except (TransientError, ProofFailed, ForeignDeletes) as error:
            log.error("maintenance failed", table=table.table, task=str(task), error=str(error))
            return
        if any(figures.values()):
            log.info("maintained", table=table.table, task=str(task), **figures)
