"""One table's share of partitions: read from the table's offsets on, write, commit, announce.

The table alone says how far the work is. Whatever fails, the work restarts from the table's offsets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass

from k2common.columnar.record_batch import FetchedBatch
from k2common.errors import Fenced, SetupError, TransientError
from k2common.iceberg.catalogs.catalog import Catalog, load_table
from k2common.iceberg.commits.commit import CommitResult, Proposal, commit
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.versions.documents import head_version
from k2common.kafka.consumer import BatchReader
from k2common.kafka.identity import identify
from k2common.kafka.positions import high_watermarks
from k2common.observability.logging import get_logger
from k2common.observability.tracing import Carried
from k2common.runtime import failpoints
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import COMMANDS, REDRIVES, STATUS, UPLOADS, VERSIONS, Dataset
from k2common.versions.version import Version

from iceberg_sink.batches.batch_intake import Intake, Pace
from iceberg_sink.batches.batches import Writer, WrittenFiles
from iceberg_sink.batches.source_order import Reversal
from iceberg_sink.batches.stray_records import PartedBatches, StrayRecords
from iceberg_sink.commits.announcer import Announcement, Announcer, unrecorded
from iceberg_sink.commits.commit_batch import Step
from iceberg_sink.commits.commit_events import AppliedChange, commit_span, tell_ended
from iceberg_sink.commits.metric_updates import Tally
from iceberg_sink.commits.recorded_versions import Recorded
from iceberg_sink.commits.topic_identity import origin, recorded_topics, recreated_topics, topics_of
from iceberg_sink.commits.version_change import SinkChange
from iceberg_sink.dead_letters.dead_letters import DeadLetters
from iceberg_sink.metrics import SinkMetrics
from iceberg_sink.settings import IcebergSinkSettings, SinkSettings
from iceberg_sink.uploads.commands import Commands
from iceberg_sink.uploads.redrive_marks import RedriveMarks
from iceberg_sink.uploads.settled_uploads import Settling
from iceberg_sink.uploads.statuses import Statuses
from iceberg_sink.uploads.visibility import Commanded, is_due

log = get_logger(__name__)
STRAYS_LOGGED = 20
"""So many of a commit are named in the log; all are dead letters."""
IDLE_POLL_INTERVAL_SECONDS = 60.0
"""How often an owner without work makes sure that the table still is as it left it."""


def pace_of(dataset: Dataset, settings: SinkSettings) -> Pace:
    """How often a table commits while rows arrive.

    All tables share one catalogue, and each commit takes its time from the others. Market rows, rejects and
    dead letters hold receipts up; final receipts and versions hold up nothing, as the topics have them.
    """
    if dataset in (UPLOADS, VERSIONS):
        return Pace(settings.bookkeeping_interval_seconds, share=None)
    return Pace(settings.commit_interval_seconds, share=settings.max_commit_time_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterDependencies:
    """What every table's work needs."""

    settings: IcebergSinkSettings
    catalog: Catalog
    reader: VersionReader
    statuses: Statuses
    commands: Commands
    marks: RedriveMarks
    settling: Settling
    blocking: Blocking
    clock: Clock
    metrics: SinkMetrics


class TableWriter:
    """Owns `partitions` of a dataset's topic until its work is ended or another owner's commit fences it."""

    def __init__(
        self,
        dataset: Dataset,
        partitions: Set[int],
        *,
        tools: WriterDependencies,
        batches: Callable[[], Writer],
        announcer: Callable[[], Announcer],
    ) -> None:
        """`partitions` are numbers of the table; each run has a new writer and a new announcer."""
        self._dataset = dataset
        self._places = {place: n for place, n in dataset.places.items() if n in partitions}
        self._tools = tools
        self._new_writer = batches
        self._new_announcer = announcer
        self._recorded = Recorded(tools.reader, dataset)
        self._tally = Tally(dataset.table, tools.metrics)
        self._kafka = tools.settings.kafka
        self._sink = tools.settings.sink
        self._letters = DeadLetters(
            dataset,
            statuses=tools.statuses,
            settings=self._sink,
            epoch=self._kafka.epoch,
            clock=tools.clock,
        )
        self._pace = pace_of(dataset, self._sink)
        self._looked = 0.0
        self._committed = tools.clock.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`.

        Raises Fenced or TransientError when the work has to restart, SetupError when the log no longer
        holds what the table lacks.
        """
        async with AsyncExitStack() as opened:
            self._tally.begin()
            self._writer = self._new_writer()
            self._announcer = self._new_announcer()
            await opened.enter_async_context(self._announcer.producer)
            head = await self._tools.blocking.run(self._head)
            self._stray_records = await self._names_read(head)
            self._origin = await self._checked_origin()
            await self._announce_live()
            expected = self._offsets(head)
            starts = {place: expected[number] for place, number in self._places.items()}
            reader = await opened.enter_async_context(BatchReader(self._kafka, starts))
            log.info("table taken", table=self._dataset.table, offsets=expected)
            self._intake = Intake(
                reader,
                numbers=self._places,
                pace=self._pace,
                settings=self._sink,
                clock=self._tools.clock,
            )
            await self._work(self._intake, expected, stop)

    async def _work(self, intake: Intake, expected: Mapping[int, int | None], stop: asyncio.Event) -> None:
        following = asyncio.create_task(self._next(intake, stop))
        try:
            while (step := await following) is not None:
                # The next rows are decoded and written while these are committed.
                following = asyncio.create_task(self._next(intake, stop))
                if step.holds_anything or self._is_behind(step, expected):
                    await self._commit(step, expected)
                    expected = {**expected, **step.offsets}
                else:
                    await self._look(expected)
        except Fenced:
            self._tally.fenced()
            raise
        finally:
            following.cancel()
            await asyncio.wait({following})

    async def _names_read(self, head: Version | None) -> StrayRecords | None:
        """What finds the strays among records from the head on; None for a topic that no status names."""
        if not self._dataset.visibility:
            return None
        dataset, statuses, marks = self._dataset, self._tools.statuses, self._tools.marks
        await statuses.reread(dataset.name, head, topic=dataset.topic.name)
        ended = {} if head is None else head.ended
        return StrayRecords(
            dataset.topic.name,
            epochs=[epoch for epoch in range(self._kafka.epoch, -1, -1) if epoch not in ended],
            named=statuses.named,
            followers=(statuses.follower, marks.follower),
            watermarks=lambda: high_watermarks(
                self._kafka, {topic.name: topic.partitions for topic in (STATUS, REDRIVES)}
            ),
            clock=self._tools.clock,
            on_reversal=self._reversed,
        )

    def _reversed(self, reversal: Reversal) -> None:
        self._tools.metrics.reversed.labels(self._dataset.table).inc()
        log.error("source position reversed", table=self._dataset.table, **asdict(reversal))

    def _is_behind(self, step: Step, expected: Mapping[int, int | None]) -> bool:
        """Whether nothing but marks of transactions came for so long that retention may pass the offsets."""
        idle = self._tools.clock.monotonic() - self._committed
        moved = any(expected[partition] not in (None, at) for partition, at in step.offsets.items())
        return moved and idle >= self._sink.idle_commit_seconds

    def _head(self) -> Version | None:
        return head_version(load_table(self._tools.catalog, self._dataset.table))

    async def _checked_origin(self) -> Mapping[str, str]:
        """What commits say about Kafka; raises SetupError when the table was filled from other topics."""
        present = await identify(self._kafka, topics_of(self._dataset))
        table = await self._tools.blocking.run(load_table, self._tools.catalog, self._dataset.table)
        recorded = recorded_topics(table)
        if recreated := sorted(recreated_topics(recorded, present)):
            raise SetupError(
                f"{', '.join(recreated)}: deleted and re-created since {self._dataset.table} was filled "
                "from it; its offsets say nothing any more. Re-base: python -m iceberg_sink rebase"
            )
        return origin(present)

    def _offsets(self, head: Version | None) -> Mapping[int, int | None]:
        if head is not None and head.epoch != self._kafka.epoch:
            raise SetupError(
                f"{self._dataset.table} is in epoch {head.epoch}, K2_KAFKA__EPOCH says {self._kafka.epoch}; "
                "after the topics were re-created, re-base the tables: python -m iceberg_sink rebase"
            )
        known = {} if head is None else head.offsets
        return {partition: known.get(partition) for partition in self._places.values()}

    async def _next(self, intake: Intake, stop: asyncio.Event) -> Step | None:
        taken = await intake.take(stop, patience_seconds=self._patience())
        if taken is None:
            return None
        if not taken.batches:
            self._tally.tell(intake)
            return Step(offsets=taken.moved)
        self._tally.came(taken.batches, intake)
        table = self._dataset.table
        parted = await self._parted(taken.batches, stop)
        if parted is None:
            return None
        with self._tools.metrics.write_seconds.labels(table).time():
            written = await self._writer.write(parted.batches) if parted.batches else WrittenFiles()
        failpoints.reached("sink.written")
        letters = await self._letters.of([*written.poison, *parted.beside], rows=written.rows)
        self._tools.metrics.behind.labels(table).set(await intake.behind())
        return Step(
            offsets=taken.moved,
            written=written,
            letters=[*letters, *self._letters.of_strays(parted.strays)],
            strays=len(parted.strays),
            came=True,
        )

    async def _parted(self, batches: Sequence[FetchedBatch], stop: asyncio.Event) -> PartedBatches | None:
        if self._stray_records is None:
            return PartedBatches(batches=batches)
        parted = await self._stray_records.part(batches, stop)
        for stray in () if parted is None else parted.strays[:STRAYS_LOGGED]:
            log.error(
                "stray record", table=self._dataset.table, partition=stray.partition, offset=stray.offset
            )
        return parted

    def _patience(self) -> float:
        """How long to wait for rows before the table is looked at: what is told of an upload may show it."""
        if self._tools.statuses.open(self._dataset.name):
            return min(self._sink.commit_interval_seconds, self._sink.poll_interval_seconds)
        return self._sink.poll_interval_seconds

    async def _commit(self, step: Step, expected: Mapping[int, int | None]) -> None:
        dataset, tools = self._dataset, self._tools
        began, dead_letters = tools.clock.monotonic(), 0
        if step.letters:
            # First the letters: a commit that passes a message may be the last that is seen of it.
            dead_letters = await self._announcer.keep(step.letters, topic=dataset.topic)
            failpoints.reached("sink.dead_lettered")
        change = AppliedChange(
            SinkChange(
                dataset=dataset,
                epoch=self._kafka.epoch,
                now=tools.clock.now(),
                offsets=step.offsets,
                arrived=step.written.arrived,
                redriven=step.written.redriven,
                dead_letters=dead_letters,
                progress=tools.statuses.complete(dataset.name),
                commanded=tools.commands.pending(dataset.name),
                resume={
                    STATUS.name: tools.statuses.resume(dataset.name),
                    COMMANDS.name: tools.commands.resume(dataset.name),
                },
            )
        )
        proposal = Proposal(
            table=dataset.table,
            epoch=self._kafka.epoch,
            change=change,
            expected={partition: expected[partition] for partition in step.offsets},
            files=step.written.files,
            origin=self._origin,
        )
        retention = Retention(live=tools.settings.iceberg.live_snapshots, recorded=self._recorded)
        with (
            tools.metrics.commit_seconds.labels(dataset.table).time(),
            commit_span(dataset.table, rows=step.written.rows),
        ):
            result = await self._commit_tried(proposal, retention)
            failpoints.reached("sink.committed")
            trace = tell_ended(change, result.version, trace_of=tools.statuses.trace)
            await self._announce(result, trace)
            failpoints.reached("sink.announced")
        self._committed = tools.clock.monotonic()
        self._pace.took(self._committed - began)
        tools.settling.by(dataset, result.version)
        self._tally.committed(step, result, self._intake)

    async def _commit_tried(self, proposal: Proposal, retention: Retention) -> CommitResult:
        tools = self._tools
        try:
            return await tools.blocking.run(
                commit,
                tools.catalog,
                proposal,
                retention=retention,
                attempts=tools.settings.iceberg.commit_attempts,
            )
        except Fenced:
            raise
        except TransientError:
            self._tally.failed()
            raise

    async def _look(self, expected: Mapping[int, int | None]) -> None:
        """Commit without rows when that shows an upload, or hides it for another reason than loading.

        Raises Fenced when the table has other offsets: main was rolled back, or another owner was there.
        """
        name, now = self._dataset.name, self._tools.clock.monotonic()
        # One owner is enough, and there always is one of the first partition.
        decides = self._dataset.visibility and 0 in self._places.values()
        complete = self._tools.statuses.complete(name) if decides else {}
        commanded = self._tools.commands.pending(name) if decides else Commanded()
        pause = self._sink.poll_interval_seconds if complete or commanded else IDLE_POLL_INTERVAL_SECONDS
        if now - self._looked < pause:
            return
        self._looked = now
        head = await self._tools.blocking.run(self._head)
        if (found := self._offsets(head)) != expected:
            raise Fenced(f"{self._dataset.table}: started from {dict(expected)}, the table has {found}")
        if head is None or not decides:
            return
        if is_due(head, complete, commanded, topic=self._dataset.topic.name):
            self._looked = 0.0
            await self._commit(Step(offsets={}), {})
        else:
            self._tools.settling.by(self._dataset, head)

    async def _announce(self, result: CommitResult, trace: Carried) -> None:
        if self._dataset.versioned:
            announcement = Announcement.of(result, trace=trace)
            await self._announcer.announce([announcement])

    async def _announce_live(self) -> None:
        """Announce again what an owner that was killed between commit and announcement has left."""
        if self._dataset.versioned:
            left = await self._tools.blocking.run(
                unrecorded, self._tools.catalog, self._dataset.table, self._recorded
            )
            await self._announcer.announce(left)
