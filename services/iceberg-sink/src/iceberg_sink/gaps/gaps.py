"""Sequence gaps from table to table: what became visible is followed, and each finding is an event, once.

One replica does it at a time; if two do, the commit of one counts and the other restarts.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc
from k2common.domain.numbering import Limits
from k2common.domain.sequencing import ROW_COLUMNS, KeyName, Sequencer
from k2common.engine.connection import Engine
from k2common.engine.differences import KeyDay, days_sql, placed_rows_sql
from k2common.engine.scan import Parameters, Scan
from k2common.iceberg.catalogs.catalog import Catalog
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.files.verification import FileVerifier
from k2common.iceberg.gaps import GapStore, Progress
from k2common.iceberg.reading.plan import Plan
from k2common.iceberg.reading.reader import VersionReader
from k2common.observability.logging import get_logger
from k2common.runtime.retry import wait_or_stop
from k2common.schemas.datasets import GAPS, QUOTES, TRADES, Dataset
from k2common.settings.engine import EngineSettings
from k2common.settings.iceberg import IcebergSettings
from k2common.versions.version import Version

from iceberg_sink.commits.announcer import Announcement, Announcer, unrecorded
from iceberg_sink.commits.recorded_versions import Recorded
from iceberg_sink.commits.writer import WriterDependencies
from iceberg_sink.metrics import SinkMetrics
from iceberg_sink.settings import GapSettings

FOLLOWED = (TRADES, QUOTES)
"""Datasets whose rows may have a sequence number."""
BATCH_ROWS = 200_000
EPOCH_DAY = date(1970, 1, 1)
log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingGapStep:
    """A step that is not committed: how far it comes, and its events."""

    progress: Progress
    events: pa.Table


class GapFinder:
    """Follows the datasets' tables from where `begin` says; only for one thread at a time."""

    def __init__(
        self,
        catalog: Catalog,
        settings: GapSettings,
        *,
        warehouse: IcebergSettings,
        metrics: SinkMetrics,
        verifier: FileVerifier | None = None,
    ) -> None:
        self._limits = Limits(
            large_gap=settings.large_gap,
            open_gaps=settings.open_gaps_per_day,
            days=settings.days_per_key,
            events=settings.events_per_day,
        )
        limits = EngineSettings(memory_megabytes=settings.memory_megabytes, threads=1)
        self._engine = Engine(limits, warehouse=warehouse)
        self._reader = VersionReader(catalog, verifier=verifier)
        self._metrics = metrics
        self._sequencers: dict[str, Sequencer] = {}
        self._progress = Progress()

    def begin(self, progress: Progress) -> None:
        """Go on from there."""
        self._progress = progress
        self._sequencers = {d.name: Sequencer(self._limits, progress.memory.get(d.name)) for d in FOLLOWED}

    def step(self, *, now: datetime) -> PendingGapStep | None:
        """What the datasets' newest versions bring; None when there is none that is new.

        After a step that was not committed `begin` has to be called. Raises TransientError.
        """
        heads = {dataset.table: self._reader.refresh(dataset.table) for dataset in FOLLOWED}
        new = {t: v for t, v in heads.items() if v is not None and self._is_new(v)}
        if not new:
            return None
        number = self._progress.events
        parts: list[pa.Table] = []
        for dataset in FOLLOWED:
            version = new.get(dataset.table)
            if version is not None:
                events = self._follow(dataset, version, first_number=number)
                number += events.num_rows
                parts.append(_rows(events, dataset, version, now=now))
        memory = {name: sequencer.state() for name, sequencer in self._sequencers.items()}
        progress = Progress(followed={**self._progress.followed, **new}, memory=memory)
        return PendingGapStep(progress=progress, events=pa.concat_tables(parts))

    @property
    def progress(self) -> Progress:
        """Where the next step begins."""
        return self._progress

    def committed(self, progress: Progress) -> None:
        """The step is in the table."""
        self._progress = progress

    def close(self) -> None:
        """Give up the engine."""
        self._engine.close()

    def _is_new(self, version: Version) -> bool:
        known = self._progress.followed.get(version.table)
        return known is None or known.number < version.number

    def _follow(self, dataset: Dataset, version: Version, *, first_number: int) -> pa.Table:
        sequencer = self._sequencers[dataset.name]
        before = self._progress.followed.get(dataset.table)
        again = [] if before is None else self._taken_back(dataset, before, version, sequencer)
        if again:
            symbols = sorted({symbol for _, symbol, _, _ in again})
            plan = self._reader.plan(version, symbols=symbols)
            self._take(sequencer, dataset, plan, only=again)
        self._take(sequencer, dataset, self._reader.plan(version, without=before), without=again)
        return sequencer.settle(first_number)

    def _taken_back(
        self, dataset: Dataset, before: Version, version: Version, sequencer: Sequencer
    ) -> Sequence[KeyDay]:
        """The days that lost rows, and those that gaps join to them: they are to be followed again."""
        plan = self._reader.plan(before, without=version)
        if not plan.paths:
            return []
        parameters = Parameters()
        sql = days_sql(Scan(dataset=dataset, plan=plan), parameters)
        with self._engine.query(sql, parameters.values) as query:
            found = query.table().to_pylist()
        days: dict[KeyName, set[int]] = defaultdict(set)
        for row in found:
            days[(row["venue"], row["symbol"], row["source"])].add((row["trading_date"] - EPOCH_DAY).days)
        again: list[KeyDay] = []
        for name in sorted(days):
            for day in sorted(sequencer.joined(name, days[name])):
                sequencer.forget(name, day)
                again.append((*name, date.fromordinal(EPOCH_DAY.toordinal() + day)))
        return again

    def _take(
        self,
        sequencer: Sequencer,
        dataset: Dataset,
        plan: Plan,
        *,
        only: Sequence[KeyDay] = (),
        without: Sequence[KeyDay] = (),
    ) -> None:
        if not plan.paths:
            return
        parameters = Parameters()
        scan = Scan(dataset=dataset, plan=plan)
        sql = placed_rows_sql(scan, ROW_COLUMNS, parameters, only=only, without=without)
        with self._engine.query(sql, parameters.values) as query:
            for batch in query.batches(BATCH_ROWS):
                sequencer.take(pa.Table.from_batches([batch]))
                self._metrics.gap_rows.labels(dataset.table).inc(batch.num_rows)


class GapJob:
    """Looks at the tables every few seconds, until its work is ended."""

    def __init__(
        self,
        store: GapStore,
        finder: Callable[[], GapFinder],
        *,
        tools: WriterDependencies,
        announcer: Callable[[], Announcer],
    ) -> None:
        self._store = store
        self._new_finder = finder
        self._new_announcer = announcer
        self._catalog = tools.catalog
        self._poll_interval_seconds = tools.settings.gaps.poll_interval_seconds
        self._recorded = Recorded(tools.reader, GAPS)
        self._retention = Retention(live=tools.settings.iceberg.live_snapshots, recorded=self._recorded)
        self._blocking = tools.blocking
        self._clock = tools.clock
        self._metrics = tools.metrics

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`.

        Raises TransientError, Fenced among them, when the work has to restart.
        """
        async with AsyncExitStack() as opened:
            announcer = self._new_announcer()
            await opened.enter_async_context(announcer.producer)
            await announcer.announce(
                await self._blocking.run(unrecorded, self._catalog, GAPS.table, self._recorded)
            )
            finder = await self._blocking.run(self._new_finder)
            opened.callback(finder.close)
            finder.begin(await self._blocking.run(self._store.load))
            while not stop.is_set():
                announcement = await self._blocking.run(self.step, finder)
                if announcement is not None:
                    await announcer.announce([announcement])
                # A step comes to the tables' heads; those of a busy table move on during the step itself.
                await wait_or_stop(stop, self._poll_interval_seconds)

    def step(self, finder: GapFinder) -> Announcement | None:
        """Find, commit, and say what to announce; None when there was nothing new."""
        before, now = finder.progress, self._clock.now()
        with self._metrics.gap_seconds.time():
            found = finder.step(now=now)
            if found is None:
                return None
            progress, result = self._store.commit(
                before, found.progress, found.events, now=now, retention=self._retention
            )
        finder.committed(progress)
        self._metrics.tell_contents(GAPS.table, result.totals)
        for kind, count in _counts(found.events):
            self._metrics.gap_events.labels(kind).inc(count)
        return Announcement.of(result)


def _rows(events: pa.Table, dataset: Dataset, version: Version, *, now: datetime) -> pa.Table:
    """The events as rows of the table."""
    count = events.num_rows
    micros = pa.timestamp("us", "UTC")
    times = pc.floor(pc.divide(events["ts_event_ns"], 1000))
    return (
        events.append_column("dataset", pa.array([dataset.name] * count, pa.string()))
        .append_column("ts_event", times.cast(pa.int64()).cast(micros))
        .append_column("version", pa.array([version.number] * count, pa.int64()))
        .append_column("found_at", pa.array([now.astimezone(UTC)] * count, micros))
    )


def _counts(events: pa.Table) -> Iterator[tuple[str, int]]:
    for entry in pc.value_counts(events["kind"].combine_chunks()).to_pylist():
        yield entry["values"], entry["counts"]
